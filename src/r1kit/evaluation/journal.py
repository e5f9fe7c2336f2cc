"""A JSON Lines file that is written row by row, outlives `kill -9`, and knows the settings that made it.

Beside NAME stands its settings file: {"settings": what must be the same to go on, "notes": what need not be}.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from r1kit.errors import RunError
from r1kit.run import plain, write_whole


class Journal:
    """Rows on disk, appended a few at a time; what was appended stays, whatever happens next."""

    def __init__(
        self, path: Path, settings_path: Path, *, settings: Mapping[str, Any], notes: Mapping[str, Any]
    ) -> None:
        """Start a new file, or take one up again where its settings are the same; a torn last line is cut off.

        Raises RunError where the settings differ, rows have no settings beside them, or another process writes here.
        """
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = path.open("ab")
            self._lock()
            self.notes = self._settled(settings_path, _as_read(settings), _as_read(notes))
            self._cut_torn_line()
        except OSError as error:
            raise RunError(f"{path}: cannot be written: {error.strerror}") from error

    def __enter__(self) -> "Journal":
        """The journal."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file and give it to others."""
        self._file.close()

    def rows(self) -> Iterator[tuple[dict[str, Any], int]]:
        """Each row, and where in the file it ends; raise RunError for a row that is none."""
        end = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                end += len(line)
                try:
                    row = json.loads(line)
                except ValueError:
                    row = None
                if not isinstance(row, dict):
                    raise RunError(f"{self.path}, line {number}: damaged; cut the file before it to go on from there")
                yield row, end

    def cut_back(self, end: int) -> None:
        """Forget all that stands after a place that `rows` named."""
        os.ftruncate(self._file.fileno(), end)

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write rows, and return when they are on the disk."""
        data = b"".join(map(_line, rows))
        try:
            self._file.write(data)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise RunError(
                f"{self.path}: cannot be written: {error.strerror}; make room, and the same command goes on"
            ) from error

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"{self.path} is in use by another r1 process") from None

    def _settled(self, path: Path, settings: dict[str, Any], notes: dict[str, Any]) -> dict[str, Any]:
        """The notes of whoever began the file."""
        if not path.is_file():
            if os.fstat(self._file.fileno()).st_size:
                raise RunError(
                    f"{self.path} holds rows, but not {path.name} beside it that says how they were made; "
                    "name another file"
                )
            write_whole(path, json.dumps({"settings": settings, "notes": notes}, indent=2, ensure_ascii=False) + "\n")
            return notes
        try:
            found = json.loads(path.read_text("utf-8"))
            before, notes = dict(found["settings"]), dict(found["notes"])
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path} is damaged: {error}; name another file") from error
        changed = differences(before, settings)
        if changed:
            raise RunError(
                f"{self.path} was made with other settings: {'; '.join(changed[:3])}; "
                "go on with the same ones, or name another file"
            )
        return notes

    def _cut_torn_line(self) -> None:
        """A process that was killed while it wrote leaves a line without its end."""
        with self.path.open("rb") as file:
            whole = position = file.seek(0, os.SEEK_END)
            while position > 0:
                start = max(0, position - 65536)
                file.seek(start)
                found = file.read(position - start).rfind(b"\n")
                if found >= 0:
                    whole = start + found + 1
                    break
                position = whole = start
        self.cut_back(whole)


def differences(before: object, now: object, path: str = "") -> list[str]:
    """In which values two trees of plain values differ: `sampling.temperature 0.6 -> 1.0`."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [*before, *(key for key in now if key not in before)]
        return [
            found
            for key in keys
            for found in differences(before.get(key), now.get(key), f"{path}.{key}" if path else key)
        ]
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        pairs = enumerate(zip(before, now, strict=True))
        return [found for place, (old, new) in pairs for found in differences(old, new, f"{path}.{place}")]
    return [] if before == now else [f"{path} {_short(before)} -> {_short(now)}"]


def _line(row: Mapping[str, Any]) -> bytes:
    text = json.dumps(plain(row), ensure_ascii=False) + "\n"
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can only hold as an escape
        return json.dumps(plain(row)).encode("ascii") + b"\n"


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _as_read(value: Mapping[str, Any]) -> dict[str, Any]:
    """As it will come back from disk: tuples are lists, and nan is None."""
    return json.loads(json.dumps(plain(value)))
