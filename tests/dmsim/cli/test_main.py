import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from dmsim.cli import main as cli

pytestmark = pytest.mark.quick_compile


class Command:
    """Stands for a command's module; says whatever `outcome` is."""

    HELP = "do it"
    outcome: BaseException | int = 0

    @staticmethod
    def add_arguments(parser):
        parser.add_argument("--number", type=int)

    @classmethod
    def run(cls, args):
        if isinstance(cls.outcome, BaseException):
            raise cls.outcome
        return cls.outcome


@pytest.fixture
def command(monkeypatch, tmp_path):
    monkeypatch.setattr(sys.modules[__name__], "Command", type("Command", (Command,), {}))
    points = {
        "act": EntryPoint("act", f"{__name__}:Command", cli.GROUP),
        "broken": EntryPoint("broken", "dmsim.not_there", cli.GROUP),
    }
    monkeypatch.setattr(cli, "find_commands", lambda: points)
    for name in ("COMPILATION_CACHE_DIR", "PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
                 "PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"):  # fmt: skip
        monkeypatch.setenv(f"JAX_{name}", "1")
    return Command


@pytest.mark.parametrize("status", [0, 3])
def test_status_of_the_command(status, command):
    command.outcome = status
    assert cli.main(["act"]) == status


@pytest.mark.parametrize(
    "error", [ValueError("mass is -1 kg:\nmust be > 0 kg"), FileNotFoundError(2, "gone", "x")]
)
def test_errors_are_one_line(error, command, capsys):
    command.outcome = error
    assert cli.main(["act"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("dmsim: error: ")
    with pytest.raises(type(error)):
        cli.main(["act", "--debug"])


@pytest.mark.parametrize("kind", ["python", "device"])
def test_out_of_memory_says_what_to_do(kind, command, capsys):
    import jax

    command.outcome = {
        "python": MemoryError("Unable to allocate 9 TiB"),
        "device": jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 9 TiB\n" + "buffer\n" * 500),
    }[kind]
    assert cli.main(["act"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dmsim: error: out of memory (")
    assert "9 TiB" in line
    assert "--chunk-events" in line
    assert len(line) < 400


def test_programming_errors_keep_their_traceback(command):
    import jax

    for error in (TypeError("a bug"), jax.errors.JaxRuntimeError("INTERNAL: a bug")):
        command.outcome = error
        with pytest.raises(type(error)):
            cli.main(["act"])


def test_interruption(command, capsys):
    command.outcome = KeyboardInterrupt()
    assert cli.main(["act"]) == 130
    assert capsys.readouterr().err == "dmsim: interrupted\n"


@pytest.mark.parametrize("arguments", [[], ["unknown"], ["act", "--number", "x"], ["act", "--no-such"]])
def test_wrong_usage(arguments, command, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "usage: dmsim" in capsys.readouterr().err


def test_a_broken_command_does_not_break_the_help(command, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["--help"])
    assert caught.value.code == 0
    output = capsys.readouterr().out
    assert "do it" in output
    assert "cannot be loaded: No module named 'dmsim.not_there'" in output
    assert cli.main(["broken"]) == 1


def test_help_does_not_load_jax():
    code = (
        "import sys; from dmsim.cli.main import main\n"
        "for arguments in (['--help'], ['simulate', '--help'], ['reconstruct', '--help']):\n"
        "    try: main(arguments)\n"
        "    except SystemExit as stop: assert stop.code == 0\n"
        "loaded = {'jax', 'equinox', 'pyarrow', 'matplotlib', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {loaded}' if loaded else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_public_names_are_there():
    import dmsim

    assert {"load_detector", "simulate_records", "sources", "quanta", "reconstruct"} <= set(dir(dmsim))
    for name in dir(dmsim):
        getattr(dmsim, name)
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        dmsim.nonsense  # noqa: B018


def test_the_users_cache_folder_wins(monkeypatch):
    import os

    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/mine")
    monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", raising=False)
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "9")
    cli.use_compilation_cache()
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == "/mine"
    assert os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] == "9"
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    cli.use_compilation_cache()
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == "/caches/dmsim/jax"
