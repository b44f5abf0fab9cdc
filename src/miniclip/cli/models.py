"""`miniclip models`: list the installed models and what their cards say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from miniclip.cli import options, output

if TYPE_CHECKING:
    from miniclip.bundle import Bundle


def models(json: options.Json = False) -> None:
    """List the installed models and what their cards say."""
    from miniclip.bundle import installed_bundles

    cards = [_card(bundle) for bundle in installed_bundles()]
    if json:
        output.print_json({"bundles": cards})
        return
    for card in cards:
        weights = ", ".join(f"{tower} {kind}" for tower, kind in card["weights"].items())
        print(f"{card['name']}  ({card['directory']})")
        print(
            f"  size        {card['size_bytes'] / 1e6:.1f} MB ({weights or 'weights not stated'})"
        )
        shared = f"{card['embedding_dim']} shared" if card["text_tower"] else "no text tower"
        print(f"  dimensions  {shared}, {card['feature_dim']} image features")
        print(f"  input       {card['image_side']} x {card['image_side']} pixels")
        print(f"  licence     {card['licence']}")
        for key, value in card["provenance"].items():
            print(f"  {key:<11} {value}")
    if not cards:
        output.warn("no model is installed; name a bundle directory with --bundle")


def _card(bundle: Bundle) -> dict[str, Any]:
    manifest = bundle.manifest
    return {
        "name": bundle.name,
        "directory": str(bundle.directory),
        "size_bytes": bundle.size_bytes,
        "embedding_dim": manifest.embedding_dim,
        "feature_dim": manifest.feature_dim,
        "text_tower": manifest.text is not None,
        "image_side": manifest.image.side,
        "weights": dict(manifest.weights),
        "licence": manifest.licence,
        "provenance": dict(manifest.provenance),
        "fingerprint": bundle.fingerprint,
    }
