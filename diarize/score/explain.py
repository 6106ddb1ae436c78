"""In words, what was counted under a condition, what was not, and by which rules."""

from diarize.score.report import OVERLAP, ScoreReport, added, counted

MAPPING = {
    "md-eval": "chosen on the whole scored region, before collars and overlap are left out",
    "pyannote": "chosen on what collars and skipped overlap leave of the scored region",
}
SELF_OVERLAP = {
    "md-eval": "a speaker whose own turns overlap counts once",
    "pyannote": "a speaker whose own turns overlap counts as often as they do",
}
JACCARD = {
    "md-eval": "without collars and overlap included, whatever the condition, as dscore does",
    "pyannote": "in what is scored, with the speakers as they are mapped for the DER",
}


def explain(report: ScoreReport) -> list[str]:
    """A sentence for each thing that somebody might have counted otherwise.

    Args:
        report: of sessions under one condition.
    """
    scores, condition = list(report.scores.values()), report.condition
    region, left_out = sum(s.region for s in scores), sum(s.left_out for s in scores)
    single, overlapped = (added(getattr(s, name) for s in scores).scored for name in OVERLAP)
    collar = condition.collar
    return [
        f"counted: {report.total.scored:.2f} s of reference speech, each speaker for himself or "
        f"herself: {single:.2f} s where one speaks, {overlapped:.2f} s where several do",
        f"counted: false alarms in all that is scored, where nobody speaks too: "
        f"{region - left_out:.2f} s of {counted(len(scores), 'session')}",
        f"scored region: {region:.2f} s, {report.scored_region}",
        f"not counted: what lies outside of it, and {left_out:.2f} s inside",
        f"collar: {collar:g} s on each side of every boundary that the reference writes"
        + (", also between touching turns of one speaker; not scored" if collar else ": none"),
        f"overlap: {'not ' * condition.skip_overlap}scored where two or more reference speakers "
        "speak",
        "mapping: hypothesis speakers to reference speakers one to one, "
        + MAPPING[condition.rules],
        f"overlap of one speaker with himself or herself: {SELF_OVERLAP[condition.rules]}",
        "DER: miss, false alarm and confusion by scored time; seconds are added up over sessions, "
        "so that long ones weigh more",
        "JER: the mean over reference speakers, who weigh the same however long they speak; "
        + JACCARD[condition.rules],
    ]
