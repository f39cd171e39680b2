"""`dmsim detectors`."""

import pytest

from dmsim.cli.main import main
from dmsim.detector.presets_io import describe, list_detectors, preset_path


def _run(capsys, *arguments):
    status = main(["detectors", *arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_list(capsys):
    status, out, _ = _run(capsys)
    assert status == 0
    assert all(name in out for name in list_detectors())


@pytest.mark.parametrize("name", list_detectors())
def test_every_parameter_is_printed(capsys, name):
    status, out, _ = _run(capsys, name)
    assert status == 0
    assert max(len(line) for line in out.splitlines()) <= 100
    for row in describe(name):
        assert f" {row.name.rsplit('.', 1)[1]} " in out
        assert row.source.split()[0] in out
    assert "g2" in out
    assert "PE/electron" in out


def test_known_numbers(capsys):
    _, out, _ = _run(capsys, "xenonnt", "--emission-model")
    for text in ("0.151497", "31.1503", "16.8523", "work_function.offset_ev", "18.7263"):
        assert text in out


@pytest.mark.parametrize("name", ["xenon1t", "xams"])
def test_figure(capsys, tmp_path, name):
    status, _, _ = _run(capsys, name, "--figure", str(tmp_path / "arrays.png"))
    assert status == 0
    assert (tmp_path / "arrays.png").read_bytes().startswith(b"\x89PNG")


def test_bad_arguments_are_one_line(capsys, tmp_path):
    foreign = tmp_path / "mine.toml"
    foreign.write_bytes(b"\x00\xff")
    typo = tmp_path / "typo.toml"
    typo.write_text(
        preset_path("lux").read_text().replace('value = 800.0, unit = "us"', 'value = 800.0, unit = "ms"')
    )
    cases = {
        ("zeplin",): "detector 'zeplin' is not known",
        (str(foreign),): "mine.toml is not a readable TOML file",
        (str(typo),): 'typo.toml: electrons.lifetime_us: unit is "ms": use "us"',
        ("lux", "--figure", str(tmp_path / "a.txt")): "must end with one of .png, .pdf, .svg",
        ("lux", "--figure", str(tmp_path / "no" / "a.png")): "does not exist",
        ("--figure", "a.png"): "need the NAME",
    }
    for arguments, needle in cases.items():
        status, out, err = _run(capsys, *arguments)
        assert status == 1
        assert out == ""
        assert err.count("\n") == 1
        assert needle in err
