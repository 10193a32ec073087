"""The page of findings quotes what its script computes."""

import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


def test_every_figure_that_needs_no_real_questions_comes_out_as_the_page_says():
    command = [sys.executable, str(DOCS / "reproduction.py")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stderr
    page = (DOCS / "reproduction.md").read_text(encoding="utf-8")
    lines = [line for line in result.stdout.splitlines() if ": " in line]
    assert len(lines) == 7
    for line in lines:
        assert line in page
