"""A training row token by token: the one look that shows a wrong template, mask or end at once."""

from collections.abc import Iterator

from r1kit.models.chat_template import ChatTemplate, TrainingRow

HEAD, TAIL = 240, 80
"""Tokens of a long row that are shown: its beginning and its end are where faults are."""


def token_lines(template: ChatTemplate, row: TrainingRow) -> Iterator[tuple[str, str, str, str, str]]:
    """Position, id, text, whether it trains, and what it is besides text, of each token; of long rows, both ends."""
    left_out = range(HEAD, max(HEAD, len(row.token_ids) - TAIL))
    for position, (token_id, trains) in enumerate(zip(row.token_ids, row.trainable, strict=True)):
        if position == left_out.start and left_out:
            trained = sum(row.trainable[place] for place in left_out)
            yield "…", "", f"{len(left_out)} tokens more, {trained} of which train", "", ""
        if position not in left_out:
            text = repr(template.tokenizer.decode([token_id]))
            yield str(position), str(token_id), text, "yes" if trains else "", template.meaning(token_id)


def token_text(template: ChatTemplate, row: TrainingRow) -> str:
    """The same as aligned text, one token a line."""
    lines = [("position", "id", "token", "trains", ""), *token_lines(template, row)]
    widths = [max(len(line[column]) for line in lines) for column in range(5)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
