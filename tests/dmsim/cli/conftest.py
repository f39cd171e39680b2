import pytest

from dmsim.cli.main import main


@pytest.fixture
def dmsim_command(monkeypatch, capsys):
    """Run a command line; gives its status and what it printed."""
    for name, value in (
        ("COMPILATION_CACHE_DIR", "/nowhere"),  # JAX is loaded already and does not read it
        ("PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "1"),
        ("PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "0"),
    ):
        monkeypatch.setenv(f"JAX_{name}", value)

    def run(*arguments):
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run
