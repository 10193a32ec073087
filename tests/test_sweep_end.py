"""What a sweep ends with: a report in its folder, and the line that compares it again."""

import pytest
from sweep_folder import job

from medsql.runs.pages import PAGE
from medsql.sweep_end import end_sweep


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for rank in (4, 8):
        job(tmp_path / "multirun" / "ranks, all" / f"lora.r={rank}", {"lora.r": rank}, rank / 20)
    return tmp_path / "multirun" / "ranks, all"


def test_a_sweep_ends_with_its_report_and_how_to_compare_it_again(sweep, capsys):
    end_sweep(sweep)
    printed = capsys.readouterr().out
    assert "python -m medsql.compare 'multirun/ranks, all'\n" in printed
    assert f"report in multirun/ranks, all/report/{PAGE}\n" in printed
    assert "lora.r=8 is the best" in (sweep / "report" / PAGE).read_text()


def test_a_second_report_takes_the_place_of_the_first(sweep):
    end_sweep(sweep)
    job(sweep / "lora.r=16", {"lora.r": 16}, 0.9)
    end_sweep(sweep)
    assert "lora.r=16 is the best" in (sweep / "report" / PAGE).read_text()


def test_a_report_that_cannot_be_written_fails_no_sweep_and_is_said(sweep, caplog):
    (sweep / "report").mkdir()
    (sweep / "report" / "mine.txt").write_text("mine")
    end_sweep(sweep)
    assert "the sweep's report is not complete" in caplog.text and "holds something else" in caplog.text
    assert [path.name for path in (sweep / "report").iterdir()] == ["mine.txt"]


def test_an_error_of_the_reports_own_fails_no_sweep(sweep, caplog, monkeypatch):
    monkeypatch.setattr("medsql.runs.report.make_report", lambda *_, **__: 1 / 0)
    end_sweep(sweep)
    assert "division by zero" in caplog.text


def test_a_sweep_without_a_run_has_nothing_to_report(tmp_path, capsys):
    end_sweep(tmp_path)
    assert capsys.readouterr().out == "" and list(tmp_path.iterdir()) == []


def test_a_record_that_is_passed_over_is_said_on_the_page(sweep):
    (sweep / "lora.r=32").mkdir()
    (sweep / "lora.r=32" / "run.json").write_text("damaged")
    end_sweep(sweep)
    assert "passed over" in (sweep / "report" / PAGE).read_text()
