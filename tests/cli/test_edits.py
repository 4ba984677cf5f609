"""Small edits of TOML and JSON texts: one value changes, every other byte stays."""

from __future__ import annotations

import json
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lunaroute.cli.edits import EditError, json_value, set_json, set_toml, toml_value

KEY, URL, OTHER = "openai_base_url", "http://127.0.0.1:8081/v1", "http://127.0.0.1:8090/v1"
LINE = f'{KEY} = "{URL}"\n'
PATH = ("env", "ANTHROPIC_BASE_URL")

TOML = {
    "empty": ("", LINE),
    "top-level only": ('model = "x"\n', f'model = "x"\n{LINE}'),
    "no last newline": ('model = "x"', f'model = "x"\n{LINE}'),
    "before the first table": ('model = "x"\n\n[a]\nb = 1\n', f'model = "x"\n\n{LINE}\n[a]\nb = 1\n'),
    "a comment stays with its table": ("# about a\n[a]\nb = 1\n", f"{LINE}\n# about a\n[a]\nb = 1\n"),
    "replaced, comment kept": (f'{KEY}  =  "http://old"  # why\nz = 1\n', f'{KEY} = "{URL}"  # why\nz = 1\n'),
    "quoted key": (f'"{KEY}" = "http://old"\n', LINE),
    "literal string": (f"{KEY} = 'http://old'\n", LINE),
    "same key in a table": (f'[a]\n{KEY} = "t"\n', f'{LINE}\n[a]\n{KEY} = "t"\n'),
    "inside a multi-line string": (f'p = """\n{KEY} = "no"\n[no]\n"""\n', f'p = """\n{KEY} = "no"\n[no]\n"""\n{LINE}'),
    "array over lines": ("a = [\n[1],\n]\n", f"a = [\n[1],\n]\n{LINE}"),
    "windows lines": ('m = "x"\r\n[a]\r\n', f'm = "x"\r\n{LINE.strip()}\r\n\r\n[a]\r\n'),
    "array of tables": ("[[a]]\nb = 1\n", f"{LINE}\n[[a]]\nb = 1\n"),
}


@pytest.mark.parametrize("case", TOML)
def test_toml_is_set(case: str) -> None:
    before, after = TOML[case]
    assert set_toml(before, KEY, URL) == after
    assert toml_value(after, KEY) == URL


@pytest.mark.parametrize("case", TOML)
def test_toml_is_taken_out(case: str) -> None:
    text = set_toml(TOML[case][1], KEY, None)
    assert tomllib.loads(text) == {k: v for k, v in tomllib.loads(TOML[case][0]).items() if k != KEY}


@pytest.mark.parametrize("case", TOML)
def test_toml_is_set_again(case: str) -> None:
    text = set_toml(TOML[case][1], KEY, OTHER)
    assert text == TOML[case][1].replace(URL, OTHER)


@pytest.mark.parametrize("text", ["a = \n", "[a\n", 'openai_base_url = """\nx\n"""\n', "a = 1\na = 2\n"])
def test_toml_that_cannot_be_changed_safely(text: str) -> None:
    with pytest.raises(EditError):
        set_toml(text, KEY, URL)


JSON = {
    "empty": ("", '{\n  "env": {\n    "ANTHROPIC_BASE_URL": "URL"\n  }\n}\n'),
    "empty object": ("{}", '{\n  "env": {\n    "ANTHROPIC_BASE_URL": "URL"\n  }\n}'),
    "one line": ('{"a": 1}', '{"a": 1, "env": {"ANTHROPIC_BASE_URL": "URL"}}'),
    "four blanks": (
        '{\n    "a": [1,\n 2],\n    "b": 1.50\n}\n',
        '{\n    "a": [1,\n 2],\n    "b": 1.50,\n    "env": {\n        "ANTHROPIC_BASE_URL": "URL"\n    }\n}\n',
    ),
    "into env": (
        '{\n  "env": {\n    "X": "\\u00e9"\n  },\n  "z": {}\n}\n',
        '{\n  "env": {\n    "X": "\\u00e9",\n    "ANTHROPIC_BASE_URL": "URL"\n  },\n  "z": {}\n}\n',
    ),
    "into empty env": ('{\n  "env": {}\n}\n', '{\n  "env": {\n    "ANTHROPIC_BASE_URL": "URL"\n  }\n}\n'),
    "replaced": (
        '{"env":{"ANTHROPIC_BASE_URL":"http://old","Y":"}"}}',
        '{"env":{"ANTHROPIC_BASE_URL":"URL","Y":"}"}}',
    ),
    "tabs": ('{\n\t"a": 1\n}', '{\n\t"a": 1,\n\t"env": {\n\t\t"ANTHROPIC_BASE_URL": "URL"\n\t}\n}'),
    "braces in texts": (
        '{"x": "{\\"env\\": {", "env": {"a": "}"}}',
        '{"x": "{\\"env\\": {", "env": {"a": "}", "ANTHROPIC_BASE_URL": "URL"}}',
    ),
}


@pytest.mark.parametrize("case", JSON)
def test_json_is_set(case: str) -> None:
    before, after = JSON[case]
    assert set_json(before, PATH, URL) == after.replace("URL", URL).replace(f"ANTHROPIC_BASE_{URL}", PATH[1])
    assert json_value(set_json(before, PATH, URL), *PATH) == URL


@pytest.mark.parametrize("case", JSON)
def test_json_is_taken_out(case: str) -> None:
    text = set_json(set_json(JSON[case][0], PATH, URL), PATH, None)
    tree = json.loads(JSON[case][0] or "{}")
    tree.get("env", {}).pop(PATH[1], None)
    assert json.loads(text) in (tree, {**tree, "env": {}})
    assert set_json(text, PATH, None) == text


@pytest.mark.parametrize("text", ["{", "[]", '{"env": 1}', '{"env": null}', "// x\n{}", '{"a": 1,}'])
def test_json_that_cannot_be_changed_safely(text: str) -> None:
    with pytest.raises(EditError):
        set_json(text, PATH, URL)


TREES = st.dictionaries(
    st.sampled_from(["env", "a", 'q"', "é"]),
    st.dictionaries(st.sampled_from(["ANTHROPIC_BASE_URL", "b", "}"]), st.text(max_size=4), max_size=3),
    max_size=3,
)


@given(tree=TREES, indent=st.sampled_from([None, 0, 1, 2, 4, "\t"]), ascii_only=st.booleans())
def test_any_json_keeps_what_else_it_says(
    tree: dict[str, dict[str, str]], indent: int | None, ascii_only: bool
) -> None:
    text = json.dumps(tree, indent=indent, ensure_ascii=ascii_only)
    expected = {**tree, "env": {**tree.get("env", {}), PATH[1]: URL}}
    assert json.loads(set_json(text, PATH, URL)) == expected
