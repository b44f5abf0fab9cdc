"""One cold start, for `runtime.py`: from imports to the first vector, and the memory held then.

    python benchmarks/runtime_start.py NAME BUNDLE_OR_CHECKPOINT PHOTO THREADS

NAME is "transformers", or "onnxruntime" or "openvino" and a precision. It imports what this one
needs, and nothing before the clock runs.
"""

import sys
import time

STARTED = time.perf_counter()


def main() -> None:
    name, model, photo, threads = sys.argv[1:]
    start = transformers if name == "transformers" else ours
    start(name, model, photo, int(threads))
    seconds = time.perf_counter() - STARTED
    with open("/proc/self/status") as status:  # noqa: PTH123 -- pathlib is not loaded yet
        (line,) = (line for line in status if line.startswith("VmRSS"))
    print(f"{seconds:.2f} {int(line.split()[1]) / 1024:.0f}")


def transformers(_name: str, model: str, photo: str, threads: int) -> None:
    import torch
    from PIL import Image
    from transformers import CLIPImageProcessorPil, CLIPModel

    torch.set_num_threads(threads)
    processor = CLIPImageProcessorPil.from_pretrained(model)
    with torch.inference_mode():
        pixels = processor(images=[Image.open(photo)], return_tensors="pt")
        CLIPModel.from_pretrained(model).eval().get_image_features(**pixels)


def ours(name: str, model: str, photo: str, threads: int) -> None:
    from pathlib import Path

    from miniclip import Bundle, ImageSource, embed_all

    bundle = Bundle.open(model)
    if name.startswith("onnxruntime"):
        from miniclip.onnx_encoder import OnnxEncoder

        embed_all(OnnxEncoder(bundle, threads), [ImageSource.of(Path(photo))])
    else:
        from miniclip.openvino_encoder import OpenvinoEncoder

        encoder = OpenvinoEncoder(bundle, threads, bfloat16="bfloat16" in name)
        embed_all(encoder, [ImageSource.of(Path(photo))])


if __name__ == "__main__":
    main()
