"""README and docs/ are true: snippets and commands run, outputs are real, links lead somewhere.

After a change of what is printed: ``python docs/tools/pages.py PAGE... --write``.
"""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from in_process import call
from random_networks import small_network

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / "docs" / "tools"
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs").rglob("*.md")),
    ]
}

RUN_ELSEWHERE = {
    "docs/lava.md": "tests/test_lava_docs.py",  # in one interpreter with Lava
}
NOT_RUN = {
    "docs/cli.md": "examples name files that the reader has: test_examples_of_the_command_line_run",
    "docs/transcript.md": "a record of a session in a fresh clone; its options are checked below",
}
NUMBERS_VARY = {"README.md", "docs/method.md"}
"""Pages that print what training gave, which rounds differently on other processors."""

FILES = {"docs/format.md": {"network.h5": ROOT / "tests" / "data" / "network_v1.h5"}}
"""What pages expect to be there."""

TORCH = re.compile(
    r"\btorch\b|pmsm_hw\.(nn|convert)\b|import .*\bnn\b|^pmsm-hw (demo|convert)", re.M
)


def tool(name):
    sys.path.insert(0, str(TOOLS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(TOOLS))


PAGES_TOOL = tool("pages")


@pytest.fixture(scope="module")
def pages():
    return PAGES_TOOL


def code_of(pages, text):
    return "\n".join(b.text for b in pages.blocks(text) if b.kind in ("python", "bash", "file"))


def needs_torch(text):
    """Pages with commands run in one environment; tests of the commands themselves run in both."""
    code = code_of(PAGES_TOOL, text)
    return TORCH.search(code) or any(b.kind == "bash" for b in PAGES_TOOL.blocks(text))


DEMO = []
"""Of pages that ran the demo: what was printed, and the files that it wrote."""
IN_LAVA = re.compile(r"^ accuracy: Lava process graph .*\n", re.M)


def in_this_process(words, folder):
    """As `PAGES_TOOL.in_a_process`, without loading everything anew; the demo trains once."""
    if words[:3] == ["demo", "--save-dir", "build"] and words[3:] in ([], ["--no-lava"]):
        for printed, build in DEMO:
            if "--no-lava" in words or IN_LAVA.search(printed):
                shutil.copytree(build, Path(folder) / "build")
                return 0, IN_LAVA.sub("", printed) if "--no-lava" in words else printed, ""
    done = call(*words, cwd=folder)
    if words[:3] == ["demo", "--save-dir", "build"] and not done.status:
        kept = Path(folder).with_name(f"{Path(folder).name}-demo")
        DEMO.append((done.stdout, shutil.copytree(Path(folder) / "build", kept)))
    return done.status, done.stdout, done.stderr


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, text in PAGES.items()
        if name not in {**RUN_ELSEWHERE, **NOT_RUN}
        and code_of(PAGES_TOOL, text)
        and (find_spec("torch") or not needs_torch(text))
    ],
)
def test_page_runs_and_prints_what_it_shows(name, pages, tmp_path):
    text = PAGES[name]
    code = code_of(pages, text)
    if needs_torch(text):
        import torch

        torch.set_num_threads(1)
    if "--report" in code or ".plot(" in code:
        pytest.importorskip("matplotlib", reason="install the extra plot")
    for file, source in FILES.get(name, {}).items():
        (tmp_path / file).write_bytes(source.read_bytes())
    found = pages.run(text, tmp_path, in_this_process)
    problems = pages.differences(found, numbers_vary=name in NUMBERS_VARY)
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("name", RUN_ELSEWHERE)
def test_pages_run_elsewhere_are(name):
    assert Path(name).name in (ROOT / RUN_ELSEWHERE[name]).read_text()


@pytest.mark.parametrize("name", PAGES)
def test_toml_snippets_are_toml(name, pages):
    for block in pages.blocks(PAGES[name]):
        if block.info.startswith("toml"):
            tomllib.loads(block.text)


def command_lines(pages, text):
    """Those in blocks, and those between backticks."""
    for block in pages.blocks(text):
        if block.kind == "bash":
            yield from pages.command_lines(block)
    prose = pages.FENCE.sub("", text)
    for code in re.findall(r"`([^`\n]+)`", prose):
        if code == "pmsm-hw network":  # the name of a file format
            continue
        if re.match(r"(pmsm-hw|make) \S|python [\w/]+\.py\b|pip install ", code):
            yield code


def check_command(line):
    """Refuse subcommands and options that do not exist."""
    import typer

    from pmsm_hw.cli import app

    command, words = typer.main.get_command(app), shlex.split(line)[1:]
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    known = {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"--help", "-h"}
    unknown = [w for w in words if w.startswith("-") and w.split("=")[0] not in known]
    if getattr(command, "commands", None) and words and not words[0].startswith("-"):
        unknown.append(words[0])
    if unknown:
        raise RuntimeError(f"{line!r}: there is no {' '.join(unknown)}")


@pytest.mark.parametrize("name", PAGES)
def test_commands_exist(name, pages):
    for line in command_lines(pages, PAGES[name]):
        if line.startswith("pmsm-hw"):
            check_command(line.replace("...", ""))
        else:
            pages.check_other(line)


@pytest.fixture(scope="module")
def files_of_a_reader(tmp_path_factory):
    """What the examples of the command line name."""
    import torch

    from pmsm_hw import io, nn
    from pmsm_hw.convert import save_model
    from pmsm_hw.datasets import load_digits
    from pmsm_hw.mapping import load_chip, map_network

    folder = tmp_path_factory.mktemp("reader")
    (folder / "build").mkdir()
    network, images = small_network(), load_digits("test").images[:20]
    for name in ("a.h5", "b.h5", "net.h5"):
        io.save(folder / name, network)
    io.save_nir(folder / "net.nir", network)
    chip = load_chip("loihi1")
    io.save(folder / "mapped.h5", network, mapping=map_network(network, chip, objective="cores"))
    (folder / "my_chip.toml").write_text(
        'extends = "loihi1"\nname = "my_chip"\ndescription = "x"\n'
    )
    model = nn.models.build("mlp", seed=0, sizes=(64, 12, 10))
    save_model(folder / "build" / "model.pt", nn.quantize(model, levels=(0, 4), calibration=images))
    torch.save(model.state_dict(), folder / "mine.pt")
    (folder / "mine.py").write_text(
        "from pmsm_hw import nn\n\n\ndef make_model():\n"
        "    return nn.models.build('mlp', sizes=(64, 12, 10))\n"
    )
    np.savez(folder / "mine.npz", x=images)
    return folder


def examples(pages):
    lines = (x for b in pages.blocks(PAGES["docs/cli.md"]) for x in pages.command_lines(b))
    return [x for x in lines if x.startswith("pmsm-hw") and not x.endswith("[OPTIONS]")]


@pytest.mark.torch
def test_examples_of_the_command_line_run(pages, files_of_a_reader, monkeypatch):
    """In one process; `demo` runs with the README, in one of its own."""
    from typer.testing import CliRunner

    from pmsm_hw.cli import app

    monkeypatch.chdir(files_of_a_reader)
    lines = examples(pages)
    assert len(lines) >= 15
    for line in lines:
        if line.startswith("pmsm-hw demo"):
            continue
        done = CliRunner().invoke(app, shlex.split(line)[1:])
        assert done.exit_code == 0, (line, done.output, done.exception)


def test_wrong_commands_are_found(pages):
    for line in ("pmsm-hw maps x.h5", "pmsm-hw map x.h5 --chips toy", "pmsm-hw chips print"):
        with pytest.raises(RuntimeError):
            check_command(line)
    for line in ("make everything", "pip install '.[touch]'", "python benchmarks/none.py", "ls"):
        with pytest.raises(RuntimeError):
            pages.check_other(line)


def anchors_of(text):
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)
    slug = [re.sub(r"[^\w\- ]", "", h.replace("`", "").lower()).strip() for h in headings]
    return {re.sub(r"[\s-]+", "-", s) for s in slug}


@pytest.mark.parametrize("name", [*PAGES, "CHANGELOG.md"])
def test_links_lead_somewhere(name):
    """In the checkout, where pages are read too; the site's links are mkdocs' business."""
    text = PAGES.get(name) or (ROOT / name).read_text()
    for target in re.findall(
        r"\]\(([^)\s]+)\)", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    ):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / name).parent / path if path else ROOT / name
        assert file.exists(), f"{name}: {target}"
        if anchor:
            assert anchor in anchors_of(file.read_text()), f"{name}: {target}"


def test_tests_that_are_cited_exist():
    cited = re.findall(r"`(tests/\w+\.py)::(\w+)`", PAGES["docs/exactness.md"])
    assert len(cited) > 15
    for file, name in cited:
        assert f"def {name}(" in (ROOT / file).read_text(), f"{file}::{name}"


def test_outputs_are_compared(pages, tmp_path):
    page = "```python\nprint('a', 1)\n```\n\nprints\n\n```text\na {}\n```\n"
    found = pages.run(page.format(1), tmp_path)
    assert pages.differences(found) == []
    assert pages.written(page.format(2), pages.run(page.format(2), tmp_path)) == page.format(1)
    found = pages.run(page.format(2), tmp_path)
    assert len(pages.differences(found)) == 1
    assert pages.differences(found, numbers_vary=True) == []
    example = page.replace("```text", "<!-- an example -->\n```text").format(2)
    assert pages.differences(pages.run(example, tmp_path)) == []
    inline = "```python\nprint(1)\n```\n\nprints `{}`.\n"
    assert pages.differences(pages.run(inline.format(1), tmp_path)) == []
    assert len(pages.differences(pages.run(inline.format(2), tmp_path))) == 1
    named = "```python\n1\n```\n<!-- output of: pmsm-hw none -->\n```text\nx\n```\n"
    assert len(pages.differences(pages.run(named, tmp_path))) == 1
    assert pages.matches("a\n...\nz\n", "a\nb\nc\nz\n")
    assert not pages.matches("a\n...\nz\n", "a\nb\nc\n")


@pytest.mark.parametrize("how", [PAGES_TOOL.in_a_process, in_this_process])
def test_a_failing_command_fails_the_page(pages, tmp_path, how):
    with pytest.raises(RuntimeError, match=r"exit status 2\n.*nothing\.h5"):
        pages.run("```bash\npmsm-hw inspect nothing.h5\n```\n", tmp_path, how)
    (block,) = pages.run("```bash\npmsm-hw --version\n```\n", tmp_path, how)
    assert block.printed["pmsm-hw --version"].startswith("pmsm-hw ")


@pytest.mark.skipif(
    find_spec("mkdocs") is None, reason="the site is built in .venv, which has mkdocs: run it there"
)
def test_requests_to_other_hosts_are_found():
    site = tool("site_hooks")
    for text in (
        '<script src="https://cdn.example/x.js">',
        '<link rel="stylesheet" href="//fonts.example/x.css">',
        "@import url(https://x.example/a.css)",
        "<img alt='' src='http://x.example/a.png'>",
    ):
        assert site.FETCHED.search(text), text
    assert not site.FETCHED.search('<a href="https://arxiv.org/abs/2508.14520">')
