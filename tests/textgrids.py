"""TextGrid files as Praat writes them, for the tests of what reads them."""

from collections.abc import Mapping, Sequence

Entry = tuple[float, float, str]


def long_form(tiers: Mapping[str, Sequence[Entry]], end: float) -> str:
    """The form that Praat writes unless told otherwise; intervals fill the gaps."""
    lines = [
        'File type = "ooTextFile"', 'Object class = "TextGrid"', "",
        "xmin = 0 ", f"xmax = {end:g} ", "tiers? <exists> ", f"size = {len(tiers)} ", "item []: ",
    ]  # fmt: skip
    for number, (name, entries) in enumerate(tiers.items(), start=1):
        filled = fill(entries, end)
        lines += [
            f"    item [{number}]:", '        class = "IntervalTier" ',
            f"        name = {quoted(name)} ", "        xmin = 0 ", f"        xmax = {end:g} ",
            f"        intervals: size = {len(filled)} ",
        ]  # fmt: skip
        for index, (start, stop, text) in enumerate(filled, start=1):
            lines += [
                f"        intervals [{index}]:", f"            xmin = {start!r} ",
                f"            xmax = {stop!r} ", f"            text = {quoted(text)} ",
            ]  # fmt: skip
    return "\n".join(lines) + "\n"


def short_form(tiers: Mapping[str, Sequence[Entry]], end: float) -> str:
    """The form that leaves names of values out."""
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', ""]
    lines += ["0", f"{end:g}", "<exists>", str(len(tiers))]
    for name, entries in tiers.items():
        filled = fill(entries, end)
        lines += ['"IntervalTier"', quoted(name), "0", f"{end:g}", str(len(filled))]
        for start, stop, text in filled:
            lines += [repr(start), repr(stop), quoted(text)]
    return "\n".join(lines) + "\n"


def fill(entries: Sequence[Entry], end: float) -> list[Entry]:
    """The entries, and empty ones between them."""
    filled, last = [], 0.0
    for start, stop, text in entries:
        if start > last:
            filled.append((last, start, ""))
        filled.append((start, stop, text))
        last = stop
    if last < end:
        filled.append((last, end, ""))
    return filled


def quoted(text: str) -> str:
    """A text between quotes; those within are doubled."""
    return '"' + text.replace('"', '""') + '"'
