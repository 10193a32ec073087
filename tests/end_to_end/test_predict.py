"""`python -m medsql.predict`: questions come in any way, standard output has answers and nothing else."""

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from end_to_end_tools import run_command

from medsql.predict import one_line, told_apart

ROOT = Path(__file__).parents[2]
ODD = ['how many "female" patients\' age is $5 > 65?', "is a=b, \\x ${Q} `id` $(id) #c", "combien, là-bas?"]


@pytest.fixture(scope="module")
def finished(training, tmp_path_factory):
    cwd = tmp_path_factory.mktemp("finished")
    strong = ["optim.max_steps=10", "optim.lr=0.1"]  # enough to change what is generated
    result = run_command("train", *training, *strong, "data.prompt=schema", "name=run", cwd=cwd)
    assert result.returncode == 0, result.stderr
    return cwd


def ask(*arguments, cwd, **options):
    return run_command(
        "predict", "trainer.threads=1", "decode.max_new_tokens=6", *arguments, cwd=cwd, **options
    )


@pytest.fixture(scope="module")
def typed(finished):
    """What is answered to `ODD`, a line each."""
    before = sorted(finished.rglob("*"))
    result = ask(*ODD, cwd=finished)
    assert result.returncode == 0, result.stderr
    assert "outputs/run answers" in result.stderr, "what else there is to say stays out of the way"
    assert sorted(finished.rglob("*")) == before, "nothing is left behind"
    return result.stdout


def test_each_question_is_a_line_wherever_it_comes_from(finished, typed, tmp_path):
    assert typed.count("\n") == len(ODD) and typed.strip()
    lines = tmp_path / "it's a file, é.txt"
    lines.write_text("\n" + "\r\n \n".join(ODD), encoding="utf-8-sig")
    in_file = ask(f"file={lines}", cwd=finished)
    piped = ask(ODD[0], "-", cwd=finished, input="\n".join(["", *ODD[1:]]))
    assert (in_file.stdout, in_file.returncode) == (typed, 0) == (piped.stdout, piped.returncode)
    assert "3 empty lines passed over" in in_file.stderr and "1 empty line passed over" in piped.stderr


def test_json_lines_say_what_is_known_of_each_answer_of_a_run_that_was_moved(finished, typed, tmp_path):
    moved = shutil.copytree(finished / "outputs" / "run", tmp_path / "run=a,b")
    result = ask(*ODD, "question=seed=1", "output=json", "database=hospital", f"run={moved}", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["question"] for row in rows] == [*ODD, "seed=1"]
    assert [row["sql"] for row in rows[: len(ODD)]] == typed.splitlines()
    for row in rows:
        assert row["milliseconds"] > 0 and row["truncated"] and not row["input_truncated"]
        assert not row["valid"] and row["verdict"] == row["result"]["verdict"] != "ok"
    assert "4 of 4 queries were cut" in result.stderr and "4 of 4 queries do not run" in result.stderr


def test_a_line_that_is_no_text_costs_itself_and_is_told_by_the_exit_code(finished, typed, tmp_path):
    (tmp_path / "lines").write_bytes(b"%b\n\xff\xfe\n%b" % (ODD[0].encode(), ODD[1].encode()))
    result = ask(f"file={tmp_path / 'lines'}", cwd=finished)
    assert result.returncode == 1 and result.stdout.splitlines() == typed.splitlines()[:2]
    assert f"{tmp_path / 'lines'}:2: no UTF-8 text, passed over" in result.stderr
    last = "medsql: lines that are no UTF-8 text: 1; the others are answered"
    assert result.stderr.splitlines()[-1] == last


@pytest.mark.parametrize("question", ["how many?", "is a=b?", "AGE>=65?", "a/b c=d", "lora", "[a=b]", "$a=b"])
def test_what_is_no_setting_is_a_question(question):
    assert told_apart([question]) == ([question], [])


def test_settings_and_options_are_no_questions():
    settings = ["run=a b", "trainer=cpu", "+x.y=1", "++x=", "~trainer", "hydra/job_logging=none", "age=65?"]
    assert told_apart([*settings, "-", "question=a=b"]) == (["-", "a=b"], settings)
    assert told_apart(["--cfg", "job"]) == ([], ["--cfg", "job"])


def test_a_query_is_one_line_whatever_is_in_it():
    assert one_line('SELECT "a\nb"\r\nFROM\u2028T') == 'SELECT "a b" FROM T'


def test_a_reader_that_has_seen_enough_ends_it_quietly(finished):
    command = [sys.executable, "-m", "medsql.predict", "decode.batch_size=1", "decode.max_new_tokens=2"]
    with subprocess.Popen(
        [*command, *["how many?"] * 40], cwd=finished, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read().decode()
    assert process.returncode == 0 and "nobody reads on" in said and "Traceback" not in said
    assert "Exception ignored" not in said


def test_who_asks_nothing_at_a_terminal_is_shown_how(finished):
    ours, theirs = pty.openpty()
    result = run_command("predict", cwd=finished, stdin=theirs)
    os.close(ours)
    os.close(theirs)
    assert result.returncode == 1 and result.stdout == "" and result.stderr.count("\n") == 1
    assert 'there is no question: python -m medsql.predict "how many' in result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["how many?"], "run=latest: no finished run below outputs or multirun: make train makes one"),
        (["model=mini", "how many?", ""], "question 2 is empty"),
        (["model=mini"], "there is no question: lines that are empty: 2"),
        (["model=mini", "file=nowhere"], "file=nowhere: no such file or folder"),
        (["age=65?"], "there is no setting age"),
        (["output=xml", "how many?"], "output=xml: choose one of sql, json"),
        (["-m", "decode=greedy,beam", "how many?"], "-m runs a sweep"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(command, tmp_path, arguments, says):
    result = command("predict", *arguments, input="\n\n")
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr.splitlines()[-1].startswith("medsql: ") and says in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr and not list(tmp_path.iterdir())


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
@pytest.mark.parametrize("question", ODD)
def test_make_hands_a_question_on_as_it_is(question, tmp_path):
    (tmp_path / "echo.py").write_text("import json, sys; print(json.dumps(sys.argv[1:]))")
    installed = ["make", "-s", "-o", ".venv/.installed", f"RUN_PY={sys.executable} {tmp_path / 'echo.py'}"]
    for options, run in (([], []), (["RUN=multirun/a=1,2"], ['run="multirun/a=1,2"'])):
        made = subprocess.run(
            [*installed, "predict", *options, f"Q={question}"], cwd=ROOT, capture_output=True, text=True
        )
        assert json.loads(made.stdout) == ["-m", "medsql.predict", *run, f"question={question}"], made.stderr
