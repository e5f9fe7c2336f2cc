"""A function that runs the command line, and files of problems for it."""

import signal
import sys

import pytest
import torch

from r1kit.cli import main


@pytest.fixture
def r1(monkeypatch, capfd, tmp_path):
    """A function from the words of a command to its exit status, output and errors, in an empty folder."""
    before, threads = signal.getsignal(signal.SIGINT), torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("R1_DEBUG", "")
    monkeypatch.delenv("R1KIT_DATA", raising=False)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["r1", *map(str, words)])
        capfd.readouterr()
        try:
            main()
            status = 0
        except SystemExit as stop:
            status = stop.code or 0
        said = capfd.readouterr()
        return status, said.out, said.err

    yield call
    signal.signal(signal.SIGINT, before)
    torch.set_num_threads(threads)
