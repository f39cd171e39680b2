"""The command `dmsim`: finds its subcommands, runs one, turns errors into one line.

A subcommand is a module with `HELP: str`, `add_arguments(parser)` and `run(args) -> int`, registered in the
entry-point group `dmsim.commands`. It is light at import: JAX is loaded by `run` only.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

import dmsim

GROUP = "dmsim.commands"


def find_commands() -> dict[str, EntryPoint]:
    """The registered subcommands, by name in alphabetical order."""
    return {point.name: point for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)}


def use_compilation_cache() -> None:
    """Let JAX keep compiled programs on disk, in JAX_COMPILATION_CACHE_DIR or the user's cache folder.

    Set through the environment, which JAX reads when it is imported; what the user has set wins.
    """
    cache_home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(cache_home) / "dmsim" / "jax"))
    # JAX's own default of 1 s would leave out most of our executables, which are many and small
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


def build_parser(commands: dict[str, EntryPoint], chosen: str | None) -> argparse.ArgumentParser:
    """The parser; only the chosen command's module is loaded, or all of them where none is chosen."""
    parser = argparse.ArgumentParser(
        prog="dmsim", description="Simulate and reconstruct dual-phase xenon TPCs, differentiably."
    )
    parser.add_argument("--version", action="version", version=f"dmsim {dmsim.__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, point in commands.items():
        if chosen is not None and name != chosen:
            subparsers.add_parser(name)
            continue
        try:
            module = point.load()
        except ImportError as error:
            if chosen is not None:
                raise
            subparsers.add_parser(name, help=f"(cannot be loaded: {error})")
            continue
        _add_command(subparsers, name, module)
    return parser


def _add_command(subparsers: argparse._SubParsersAction, name: str, module: ModuleType) -> None:
    parser = subparsers.add_parser(name, help=module.HELP, description=module.HELP)
    module.add_arguments(parser)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(run=module.run)


_FEWER_EVENTS = (
    "work on fewer events at a time, with --chunk-events of dmsim simulate or --events of dmsim demo and fit"
)


def _is_out_of_memory(error: Exception) -> bool:
    """Whether Python, NumPy or the device ran out of memory."""
    # by name: JAX may not have been loaded, and its class has moved between modules
    from_device = {"JaxRuntimeError", "XlaRuntimeError"} & {kind.__name__ for kind in type(error).__mro__}
    text = str(error).lower()
    return isinstance(error, MemoryError) or (
        bool(from_device) and ("resource_exhausted" in text or "out of memory" in text)
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit status: 0, 1 for what a command could not do, 130 if interrupted. Wrong usage exits with 2.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    commands = find_commands()
    chosen = arguments[0] if arguments and arguments[0] in commands else None
    use_compilation_cache()
    try:
        args = build_parser(commands, chosen).parse_args(arguments)
        return int(args.run(args) or 0)
    except KeyboardInterrupt:
        print("dmsim: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        memory = _is_out_of_memory(error)
        if "--debug" in arguments or not (memory or isinstance(error, ValueError | OSError | ImportError)):
            raise
        line = " ".join(str(error).split()) or type(error).__name__
        if memory:
            # XLA goes on with a list of its buffers
            line = f"out of memory ({line[:200]}): {_FEWER_EVENTS}"
        print(f"dmsim: error: {line}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
