"""The photos and sentences on which two versions of a model are held against each other.

They are the same on every machine: the photos are pieces of the two that come with scikit-learn,
the sentences stand below. What is compared, and against what limit, is decided in `parity`. A
change of either list needs another `PROBES_VERSION`: records of the old probes are then not read.
"""

from __future__ import annotations

from PIL import Image

PROBES_VERSION = 1

PROBE_SENTENCES = (
    # nothing, and next to nothing
    "",
    " ",
    "a",
    "?",
    "\n\t ",
    "...",
    # captions and labels
    "a photo of a cat",
    "a dog",
    "two people in red jackets stand on a snowy mountain",
    "A dog runs along the beach, and the sun is going down.",
    "a crowded street at night with neon signs and a yellow taxi in the rain",
    "the interior of a temple with painted beams and a tiled roof",
    "a red dahlia in full bloom",
    "MRI of a brain without a tumour, axial, T1",
    "crushed aluminium can (330 ml), no. 7 / 12",
    "a bird's-eye view of the farmer's field; it's late",
    "a black-and-white portrait of an old man with a beard",
    "a child holds a blue balloon",
    "itap of the large bicycle.",
    "a jpeg corrupted photo of a toy train",
    "empty kitchen",
    "graffiti of a whale on a brick wall",
    "satellite picture of a harbour with container ships",
    "a bowl of noodle soup, seen from above",
    "three sheep and a tractor",
    "close-up of a butterfly on a thistle",
    # case, numbers, punctuation, rare words
    "THE SAME WORDS IN CAPITALS!!! ...",
    "the same words in capitals!!! ...",
    "iPhone 15 Pro vs. Canon EOS-1D X",
    "1 2 3 45 678 9,012 3.14159 -40°C 100%",
    "http://example.org/a?b=c&d=%20e#f",
    "user@example.org says: \"don't\" -- 'really'",
    "antidisestablishmentarianism, pneumonoultramicroscopicsilicovolcanoconiosis",
    "qwrtzx lkjhgf 0x7f3a %$#@ <b>&amp;</b>",
    "<|startoftext|> a cat <|endoftext|> a dog </s> [SEP] [CLS] [MASK] <pad>",
    "snake_case camelCase kebab-case C++ C# .NET",
    "\\ / | ~ ` ^ * _ { } [ ]",
    "don't can't won't I'll we've they're he'd",
    "a  text   with    many     spaces      between",
    " spaces before and after ",
    # other languages and scripts
    "ein Hund spielt im Schnee; Straße, Größe, Übung",
    "un café à la crème; naïve señor; œuvre",
    "собака на пляже",
    "ένας σκύλος στην παραλία",
    "一只猫坐在窗台上",
    "雪の上の犬とカタカナ",
    "눈 위의 개",
    "כלב על החוף",
    "كلب على الشاطئ",
    "समुद्र तट पर एक कुत्ता",
    "สุนัขบนชายหาด",
    "con chó trên bãi biển, İstanbul, ǅ",
    # symbols beyond one unit, and marks that join
    "🐶🏖️ a dog 👩‍👩‍👧 and a family 🎉",
    "🇩🇪🏳️‍🌈👍🏽",
    "e\u0301 combines, é does not; ﬁ is a ligature; Å and \u212b",
    "𝒶 𝕕𝕠𝕘 ｆｕｌｌ ｗｉｄｔｈ ² ½ ™",
    "zero\u200bwidth\u200dand\ufefforder marks",
    "\u202eright to left by force\u202c",
    # control characters
    "a\x00null and a \x07bell \x1b[31mred\x1b[0m",
    "one\r\ntwo\rthree\u2028four\x0bfive",
    "no\u00a0break\u3000space",
    # longer than any context
    "a very long sentence that goes on and on about a small brown dog, " * 40,
    "猫" * 300,
    "supercalifragilisticexpialidocious" * 30,
)


def probe_photos() -> list[Image.Image]:
    """Return 32 RGB pictures: 16 pieces of each of two photos, among them strips and a stamp."""
    # scikit-learn is slow to load, and only the first use of a bundle comes here.
    from sklearn.datasets import load_sample_images  # noqa: PLC0415

    photos = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    return [piece for photo in photos for piece in _pieces(photo)]


def _pieces(photo: Image.Image) -> list[Image.Image]:
    """Cut, turn and scale one photo, 640 x 427."""
    width, height = photo.size
    turn, kernel = Image.Transpose, Image.Resampling.BICUBIC
    return [
        photo,
        photo.crop((0, 0, width // 2, height)),
        photo.crop((width // 3, height // 4, width, height // 2)),
        photo.crop((100, 50, 324, 274)),  # 224 x 224
        photo.crop((7, 11, 390, 394)),  # an odd square
        photo.crop((201, 101, 218, 124)),  # a stamp of 17 x 23
        photo.crop((0, 200, width, 240)),  # a strip, 16 times as long as high
        photo.crop((300, 0, 329, height)),  # and an upright one
        photo.transpose(turn.FLIP_LEFT_RIGHT),
        photo.transpose(turn.ROTATE_90),
        photo.transpose(turn.ROTATE_180).crop((13, 0, width, height - 29)),
        photo.resize((97, 64), kernel),
        photo.resize((331, 499), kernel),
        photo.resize((1283, 857), kernel),
        photo.crop((64, 64, 448, 448)).transpose(turn.TRANSVERSE),  # 384 x 384
        photo.convert("L").convert("RGB"),
    ]
