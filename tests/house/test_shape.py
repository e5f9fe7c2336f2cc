"""Habits that keep the code readable and safe, one test each; a failure lists the places."""

import ast
import io
import re
import tokenize

FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
VAGUE_WORDS = {"utils", "helpers", "misc", "common", "manager", "handler", "base", "wrapper", "processor"}
LOSING_NAMES = re.compile(r"(^|_)(log_probs|logps|ref_model|ground_truth)(_|$)")  # we say logprobs, reference, gold
UNFINISHED = re.compile(r"\b(TODO|FIXME|NotImplementedError)\b")
PRIVATE_PATH = re.compile(r"(?<![\w.~])/(work|home|root|Users)/|\.\./shared\b")
TEXT_FILES = {".py", ".md", ".toml", ".json", ".html", ".js", ".css", ".txt"}


def nodes(sources, *kinds):
    """`(place, node)` of every such node in the package."""
    for source in sources:
        for node in ast.walk(source.tree):
            if isinstance(node, kinds):
                yield f"{source.path}:{node.lineno}", node


def words(name):
    """`RunManager` and `run_manager` alike are run, manager."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


def test_there_is_one_backward_and_the_step_has_it(sources):
    calls = [(place, ast.unparse(call.func)) for place, call in nodes(sources, ast.Call)]
    places = [place for place, function in calls if function.endswith(".backward")]
    assert [place.split(":")[0] for place in places] == ["training/step.py"], places


def test_no_file_is_longer_than_400_lines(sources):
    lengths = {str(source.path): len(source.text.splitlines()) for source in sources}
    assert {path: length for path, length in lengths.items() if length > 400} == {}


def test_no_function_is_longer_than_60_lines(sources):
    lengths = {f"{place} {node.name}": node.end_lineno - node.lineno + 1 for place, node in nodes(sources, *FUNCTION)}
    assert {place: length for place, length in lengths.items() if length > 60} == {}


def test_module_and_class_names_say_something(sources):
    modules = [(str(source.path), str(source.path.with_suffix(""))) for source in sources]
    classes = [(place, node.name) for place, node in nodes(sources, ast.ClassDef)]
    assert [(place, name) for place, name in modules + classes if words(name) & VAGUE_WORDS] == []


def test_identifiers_use_the_words_of_the_house(sources):
    losers = []
    for source in sources:
        for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
            if token.type == tokenize.NAME and LOSING_NAMES.search(token.string):
                losers.append(f"{source.path}:{token.start[0]} {token.string}")
    assert losers == []


def test_every_function_is_annotated(sources):
    missing = []
    for place, node in nodes(sources, *FUNCTION):
        a = node.args
        params = [arg for arg in (*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg) if arg]
        bare = [arg.arg for arg in params if arg.annotation is None and arg.arg not in ("self", "cls")]
        if bare or node.returns is None:
            missing.append(f"{place} {node.name}({', '.join(bare)})")
    assert missing == []


def test_nothing_evaluates_text(sources):
    evaluation = re.compile(r"(builtins\.)?(eval|exec)|(.*\.)?parse_expr")  # `model.eval()` is something else
    calls = [(place, ast.unparse(call.func)) for place, call in nodes(sources, ast.Call)]
    assert [(place, function) for place, function in calls if evaluation.fullmatch(function)] == []


def test_only_the_boundaries_catch_everything(sources):
    broad = []
    for place, handler in nodes(sources, ast.ExceptHandler):
        caught = {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)} if handler.type else set()
        is_broad = handler.type is None or caught & {"Exception", "BaseException"}
        if is_broad and not place.startswith(("sandbox/", "serving/")):
            broad.append(place)
    assert broad == []


def test_nothing_is_left_unfinished(sources):
    assert [
        f"{source.path}: {UNFINISHED.search(source.text)[0]}" for source in sources if UNFINISHED.search(source.text)
    ] == []


def test_no_file_names_a_path_of_somebodys_machine(root):
    folders = [root / "src", root / "docs", root / "recipes"]
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.suffix in TEXT_FILES]
    readme = [path for path in [root / "README.md"] if path.exists()]
    texts = {path: path.read_text(encoding="utf-8") for path in files + readme}
    assert [str(path.relative_to(root)) for path, text in texts.items() if PRIVATE_PATH.search(text)] == []
