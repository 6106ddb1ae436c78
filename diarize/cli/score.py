"""``diarize score``: how well hypotheses say who spoke when."""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from diarize.cli.references import MANIFESTS, gather, read_turns
from diarize.turns import Segment


def add_score(verbs: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Declare the verb."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "score",
        help="compare turns with a reference: diarization error rate and its parts",
        description="Compare turns with a reference: miss, false alarm, confusion and the "
        "diarization error rate (DER), per session and in total. REF and HYP are RTTM files, "
        "folders of them, or manifests that name them; HYP may be - for standard input.",
    )
    parser.add_argument("reference", metavar="REF", help="who spoke when in truth")
    parser.add_argument("hypothesis", metavar="HYP", help="who spoke when by a system")
    parser.add_argument(
        "--uem", metavar="PATH", type=Path,
        help="scored regions, a file or a folder, within the spans of a REF manifest; default: "
        "what a REF manifest says, else the stretch from the first to the last turn of both sides",
    )  # fmt: skip
    parser.add_argument(
        "--collar", metavar="S", type=float, default=0.0,
        help="seconds on each side of a reference boundary that are not scored (NIST; half of "
        "pyannote's); hides errors where they are most frequent; default 0",
    )  # fmt: skip
    parser.add_argument(
        "--skip-overlap", action="store_true", help="leave out where two or more speak"
    )
    parser.add_argument("--per-session", action="store_true", help="a line for each session")
    parser.add_argument("--json", action="store_true", help="print JSON, sessions included")
    parser.add_argument(
        "--allow-missing", action="store_true",
        help="count a session that one side lacks as all missed, or all false alarm",
    )  # fmt: skip
    parser.set_defaults(run=run_score)
    return parser


def run_score(args: argparse.Namespace) -> int:
    """Print the table, or JSON."""
    from diarize.score import Condition, score_sessions

    condition = Condition(collar=args.collar, skip_overlap=args.skip_overlap)
    references = read_turns(args.reference)
    hypotheses = read_turns(args.hypothesis, references)
    regions = _regions(args.uem, args.reference, hypotheses)
    report = score_sessions(references, hypotheses, condition, regions, args.allow_missing)
    text = report.to_json() if args.json else report.to_text(per_session=args.per_session)
    sys.stdout.write(text.rstrip("\n") + "\n")
    return 0


def _regions(
    uem: Path | None, reference: str, hypotheses: Iterable[str]
) -> dict[str, list[Segment] | None] | None:
    """Session id -> scored regions; None where nobody says them."""
    from diarize.formats.uem import read_uem
    from diarize.manifest import read_manifest, scored_regions, within_span

    given = None if uem is None else gather(uem, ".uem", read_uem)
    if not reference.endswith(MANIFESTS):
        return None if given is None else {**given}
    known: dict[str, list[Segment] | None] = {}
    for session in read_manifest(reference):
        if given is None:
            regions = scored_regions(session)
        elif session.session_id in given:  # references are clipped to the span, so regions are too
            regions = within_span(session, given[session.session_id])
        else:
            continue
        earlier = known.get(session.session_id, [])
        whole = None if earlier is None or regions is None else [*earlier, *regions]
        known[session.session_id] = whole
    return {**(dict.fromkeys(hypotheses) if given is None else given), **known}
