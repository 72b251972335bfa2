"""What an ingredient line of a recipe names: `2 large onions, chopped` names onions."""

import re

from sft.data.embedded.wordings import one_line

_FRACTIONS = "¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"
_NUMBER = (
    rf"(?:[~≈]|approx(?:\.|imately)?|about|around|up to|at least|a few|an?\b|\d[\d.,]*|[{_FRACTIONS}]|[/+–—-]"
    r"|(?:to|or|and|plus)\b|[x×])"
)
_UNITS = (
    "US UK imperial metric fluid fl heaping heaped level scant generous packed rounded good"
    " (?:small|medium|large|thumb)-sized? extra-large small medium large big"
    r" whole(?!\swheat|\smilk|\sgrain) cups? c tablespoons? tbsps? tbs? tbl teaspoons? tsps? spoons?"
    " spoonfuls? t pounds? lbs? ounces? oz grams? g gr gms? kilograms? kilos? kgs? mg millilit(?:er|re)s?"
    " mls? cc cl dl lit(?:er|re)s? l quarts? qts? pints? pts? gallons? gal inch(?:es)? in cm mm dash(?:es)?"
    " pinch(?:es)? drops? sprigs? cloves? slices? pieces? pcs? sticks? stalks? ribs? heads? bunch(?:es)?"
    " bundles? handfuls? cans? tins? tubes? jars? bottles? packages? packets? packs? pkgs? pkts? bags?"
    " box(?:es)? cartons? containers? sheets? leaf leaves knobs? fillets? dozen ea each parts? shots?"
    " splash(?:es)? measures? cubes? strips? few lots? portions? scoops? wedges?"
)
# A unit is one only where something follows: in `1 clove garlic` it is, in `8 cloves` it is the spice.
_UNIT = rf"(?:{'|'.join(_UNITS.split())}|\w+-inch)\b\.?(?=\s+[\w+])"
_AMOUNT = re.compile(
    rf"^(?:{_NUMBER}\s*)+(?:{_UNIT}\s*|{_NUMBER}\s*)*(?:of\b\s*)?|^(?:{_UNIT}\s+)+of\b\s*", re.IGNORECASE
)
_JUICE = re.compile(r"\b(juice|zest|rind|peel)(?: and \w+)?(?: of|, from)\s+(.+)", re.IGNORECASE)
_ADJECTIVES = (
    r"(?:chopped|sliced|grated|minced|diced|crushed|peeled|shredded|melted|softened|sifted|beaten|cubed|cracked"
    r"|toasted|squeezed|mashed|trimmed|halved|washed|drained|boiling|lukewarm|warm|cold|hot|ripe|fresh"
    r"|small|medium|large|whole(?!\swheat|\smilk|\sgrain))"
)
_PREPARED = re.compile(
    r"^(?:(?:(?:very|finely|coarsely|freshly|roughly|thinly|thickly|lightly|slightly|loosely|well|pre|fresh"
    rf"|dried|cooked|raw)?[ -]?{_ADJECTIVES}|fresh(?:ly)?[ -]ground|your favou?rite|of|the)\b[ ,]+)+"
    r"(?:and [a-z]+ed )?",
    re.IGNORECASE,
)
_KIND = (
    rf"(?:{_ADJECTIVES}|white|brown|red|green|yellow|black|light|dark|smooth|mild|sweet|plain|salted|unsalted"
    r"|frozen|dried|canned|cooked|fried|roasted|raw|instant|new)"
)
# `white or brown sugar` names brown sugar, `butter or margarine` names butter.
_EITHER = re.compile(rf"^(?:{_KIND}|vegetable|chicken|beef)(?:,? or|/) (?=\w+[ -]\w)", re.IGNORECASE)
_REST = re.compile(
    r"(?:[,;:/]|–|—| - | \+ |\b(?:or|to \w+|as (?:needed|required|desired)|if (?:needed|desired|you)|for|plus"
    r"|such as|like|about|at|cut|from|in|until|per|with|without|preferably|optional|enough|e\.g)\b).*$",
    re.IGNORECASE | re.DOTALL,
)

_NAMELESS = re.compile(
    "|".join([_KIND, *(unit for unit in _UNITS.split() if unit != "cloves?")]), re.IGNORECASE
)


def ingredient_name(line: str) -> str | None:
    """Return what an ingredient line names, without amount and preparation; None where nothing is left."""
    text = line
    while (shorter := re.sub(r"\([^()]*\)", " ", text)) != text:
        text = shorter
    text = one_line(text.replace("(", " ").replace(")", " "))
    if juice := _JUICE.search(text):
        fruit = ingredient_name(juice[2])
        return f"{fruit} {juice[1].lower()}" if fruit else None
    text = _AMOUNT.sub("", text).strip(" ,.;:*-")
    text = _PREPARED.sub("", _EITHER.sub("", _PREPARED.sub("", text)))
    text = one_line(_REST.sub("", text)).strip(" ,.;:*-")
    if len(text) < 2 or len(text.split()) > 7 or re.search(rf"[\d{_FRACTIONS}]", text):
        return None
    if _NAMELESS.fullmatch(text):
        return None
    return " ".join(word if word.isupper() else word.lower() for word in text.split())
