"""The page "Match": a photo, and which captions of the index, or of a list, fit it best."""

from __future__ import annotations

from typing import Any

import gradio as gr

from miniclip.serve.pages.frame import lines, photo, plain, sentence, told, wanted_photo
from miniclip.serve.service import Service


def build(service: Service) -> None:
    """Build the page, inside its tab."""

    async def match(path: str | None, texts: str, top: float) -> list[Any]:
        given = lines(texts)
        found = await service.match(wanted_photo(path), given, int(top))
        if not found:
            return [plain("The index has no captions; write some sentences."), []]
        source = f"of {len(given)} sentences" if given else "of the captions of the index"
        said = f'The best {source}: "{found[0].text}"'
        return [plain(said), [[hit.text, f"{hit.cosine:.3f}"] for hit in found]]

    captions = service.index is not None
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            picture = photo()
            texts = gr.Textbox(
                label="Sentences, one a line",
                info="Left empty, the captions of the index are asked." if captions else None,
                placeholder="a dog on the beach\ntwo cups of coffee",
                lines=5,
                max_lines=20,
            )
            top = gr.Slider(1, 50, 5, step=1, label="How many to show")
            button = gr.Button("Match", variant="primary")
        with gr.Column(scale=2, min_width=320):
            said = sentence("Choose a photo to find the words for it.")
            table = gr.Dataframe(
                headers=["Sentence", "Cosine"],
                datatype=["str", "str"],
                type="array",
                label="Best sentences",
                interactive=False,
                wrap=True,
                buttons=[],
                column_widths=["70%", "30%"],
            )
    button.click(told(match), [picture, texts, top], [said, table])
