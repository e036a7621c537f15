"""What a YAML syntax error means in words that help, whichever parser found it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import NamedTuple

from aioresilience.config.diagnostics import Diagnostic, diagnose
from aioresilience.config.places import Place, Source

TEMPLATE = re.compile(r"\{\{(?:[^\n]{0,200}?\}\})?|\{%(?:[^\n]{0,200}?%\})?")
TEMPLATE_HINT = "render the template first, or write ${NAME}"
_KEY = re.compile(r"([ ]*(?:- +)*)([^\s:]+)[ ]*")
_ENTRY = re.compile(r"\s*(?:- +)*[^\s#][^#]*?:\s+[^\s#]", re.ASCII)
_LAST_WORD = re.compile(r"([\w.-]{1,80})\s*$")
_CONFLICT = re.compile(r"^<{7} .{0,80}|^>{7} .{0,80}", re.M)
_SLASHES = re.compile(r"\s*(//|/\*)")
_NO_SPACE = re.compile(r"\s*(?:- +)*([\w.-]{1,80}):[^\s/]")
_NO_COLON = re.compile(r"\s*(?:- +)*([a-z][\w.-]{0,80})(?: +[^\s:=]+|\s*)$")
NO_ENTRY = "this line is no 'key: value'"
_FAR = 200
"""Characters before a mistake that are looked at."""
_TOKEN = re.compile(r"\S+")
_INDENT = re.compile(r"[ ]*\t")


class Problem(NamedTuple):
    """A parser's complaint: its words, where it stood, and where the construct began that it was reading."""

    text: str
    at: int
    began: int | None = None


class _Meaning(NamedTuple):
    needles: tuple[str, ...]
    message: str
    hint: str
    at_context: bool = False
    """Point at the beginning of the construct, where the mistake is, not at the place that showed it."""
    code: str = "AR105"


_MEANINGS = (
    _Meaning(("incompatible YAML",), "this %YAML version is not supported", "delete the line", code="AR120"),
    _Meaning(("undefined tag handle",), "tags are not allowed", "delete the tag", code="AR112"),
    _Meaning(("tab character",), "a tab indents this line", "indent with spaces", code="AR106"),
    _Meaning(("mapping values are not allowed",), "a ':' stands where no key can be", "quote the text before it"),
    _Meaning(
        ("could not find expected ':'",),
        "this line is no 'key: value'",
        "write a ':' and a space after the key, or check the indentation",
        at_context=True,
    ),
    _Meaning(
        ("sequence entries are not allowed",),
        "a '-' stands where no list can be",
        "begin the list on a line of its own",
    ),
    _Meaning(("mapping keys are not allowed",), "a '?' stands where no key can be", "quote the text"),
    _Meaning(
        ("',' or '}'",),
        "this '{' is not closed, or a comma is missing",
        "separate the entries by ', ' and close with '}'",
        at_context=True,
    ),
    _Meaning(
        ("',' or ']'",),
        "this '[' is not closed, or a comma is missing",
        "separate the items by ', ' and close with ']'",
        at_context=True,
    ),
    _Meaning(("unclosed '[' or '{'",), "an open bracket is not closed", "close it, or indent this line more"),
    _Meaning(("unexpected end of stream",), "this quote is never closed", "close the quote", at_context=True),
    _Meaning(("unexpected document",), "this quote is never closed", "close the quote", at_context=True),
    _Meaning(
        ("unknown escape", "hexdecimal", "hexadecimal numbers", "Unicode character escape"),
        "the backslash does not begin an escape",
        "use single quotes, in which a backslash is itself",
    ),
    _Meaning(
        ("expected key", "'-' indicator", "<block end>"),
        "this line does not fit into the block around it",
        "give it the same indentation as its neighbours",
    ),
    _Meaning(
        ("<document start>", "'<document start>'"),
        "this text does not belong to the document above",
        "check its indentation and the brackets before it",
    ),
    _Meaning(
        ("unexpected ':'",),
        "inside braces and brackets a space belongs after this ':'",
        "write ': ', or quote the text if the ':' belongs to it",
    ),
    _Meaning(("node content",), "a value is missing here", "write the value, or quote it"),
    _Meaning(("alphabetic or numeric",), "'*' and '&' begin a name in YAML", "quote the value", at_context=True),
    _Meaning(
        ("indicator", "comment or line break", "comment or a line break"),
        "the text after '|' or '>' is not valid",
        "begin the text on the next line",
    ),
    _Meaning(("directive", "version number", "digit or"), "this directive is not valid", "delete the line"),
    _Meaning(("tag", "URI", "'!'"), "tags are not allowed", "delete the tag", code="AR112"),
)


def explain(source: Source, problem: Problem) -> Diagnostic:
    """Say what is wrong: a template, an unquoted ${…}, a tab, or the parser's complaint in our words."""
    return (
        _conflict(source)
        or _foreign_sign(source, problem)
        or _template(source, problem)
        or _interpolation(source, problem)
        or _tab(source, problem)
        or _strange_start(source, problem)
        or _closing(source, problem)
        or _colon(source, problem)
        or _bare_line(source, problem)
        or _known(source, problem)
    )


def _conflict(source: Source) -> Diagnostic | None:
    """Recognise what git leaves where two changes meet."""
    found = _CONFLICT.search(source.text)
    if found is None:
        return None
    place = source.place(found.start(), len(found[0]))
    hint = "keep one of the two sides, and delete the lines that begin with <<<<<<<, ======= and >>>>>>>"
    return diagnose("AR105", place, "a merge conflict was not resolved", hint=hint)


def _foreign_sign(source: Source, problem: Problem) -> Diagnostic | None:
    """Recognise comments of other languages, and colons of other scripts."""
    for index in dict.fromkeys((problem.at, problem.began)):
        if index is None:
            continue
        line, _ = source.position(min(index, len(source.text)))
        for number in (line, line - 1, line + 1):
            found = _SLASHES.match(source.line(number)) if number > 0 else None
            if found:
                place = source.place(source.bounds(number)[0] + found.start(1), len(found[1]))
                return diagnose("AR105", place, f"'{found[1]}' begins no comment in YAML", hint="write # instead")
        wide = source.line(line).find("\uff1a")
        if wide >= 0:
            place = source.place(source.bounds(line)[0] + wide)
            return diagnose("AR105", place, "this wide colon is no ':'", hint="write a plain ':' and a space")
    return None


def _template(source: Source, problem: Problem) -> Diagnostic | None:
    for index in (problem.at, problem.began):
        if index is None:
            continue
        line, column = source.position(min(index, len(source.text)))
        found = TEMPLATE.search(source.line(line))
        if found:
            return template(source, index - column + 1 + found.start(), found.group())
    return None


def template(source: Source, start: int, text: str) -> Diagnostic:
    """Report an unrendered template."""
    place = source.place(start, len(text))
    return diagnose("AR107", place, "a template that was not rendered", hint=TEMPLATE_HINT)


def _interpolation(source: Source, problem: Problem) -> Diagnostic | None:
    start = problem.at - 1
    if start < 0 or not source.text.startswith("${", start):
        return None
    end = source.text.find("}", start)
    place = source.place(start, end + 1 - start if end > 0 else 2)
    message = "'${…}' inside braces or brackets needs quotes"
    return diagnose("AR108", place, message, hint='put the whole value in double quotes: "${…}"')


def _tab(source: Source, problem: Problem) -> Diagnostic | None:
    line, column = source.position(min(problem.at, len(source.text)))
    start = min(problem.at, len(source.text)) - column + 1
    indent = _INDENT.match(source.line(line))
    if indent is None:
        return None
    return diagnose(
        "AR106", source.place(start + indent.end() - 1), "a tab indents this line", hint="indent with spaces"
    )


def _strange_start(source: Source, problem: Problem) -> Diagnostic | None:
    if "cannot start any token" not in problem.text:
        return None
    char = source.text[problem.at : problem.at + 1]
    if char == "\t":
        return diagnose("AR106", source.place(problem.at), "a tab stands where a value begins", hint="use spaces")
    return diagnose("AR105", source.place(problem.at), f"a value cannot begin with '{char}'", hint="quote the value")


def _closing(source: Source, problem: Problem) -> Diagnostic | None:
    char = source.text[problem.at : problem.at + 1]
    if char not in ("}", "]") or "expected ','" in problem.text:
        return None
    return diagnose("AR105", source.place(problem.at), f"this '{char}' closes nothing", hint="delete it")


def _colon(source: Source, problem: Problem) -> Diagnostic | None:
    """Say what a ':' in the wrong place means, which most often is a mistake of the line before it."""
    if "expected ','" in problem.text and source.text.startswith(":", problem.at):
        return _missing_comma(source, problem)
    if "mapping values are not allowed" not in problem.text:
        return None
    line, column = source.position(problem.at)
    key = _KEY.fullmatch(source.line(line)[: column - 1])
    if key is None:
        hint = "quote the value if the ':' belongs to it"
        return diagnose("AR105", source.place(problem.at), "a second ':' stands in this line", hint=hint)
    return _line_above(source, line, source.place(problem.at - len(key[2]), len(key[2])))


def _missing_comma(source: Source, problem: Problem) -> Diagnostic | None:
    text = source.text[max(problem.began or 0, problem.at - _FAR) : problem.at]
    key = _LAST_WORD.search(text.rpartition("\n")[2])
    if key is None or source.text.find("\n", problem.began, problem.at) >= 0:
        return None
    place = source.place(problem.at - len(key[0]), len(key[1]))
    return diagnose("AR105", place, "a comma is missing before this key", hint=f"write ', {key[1]}: …'")


def _line_above(source: Source, line: int, key: Place) -> Diagnostic | None:
    above = line - 1
    while above and not source.line(above).split("#")[0].strip():
        above -= 1
    text = source.line(above) if above else ""
    if _ENTRY.match(text):
        hint = "give it the same indentation as the line above"
        return diagnose("AR105", key, "this line is indented below a key that has a value already", hint=hint)
    if not text.strip() or text.lstrip().startswith("-"):
        return None
    indent = len(text) - len(text.lstrip())
    place = replace(key, line=above, column=indent + 1, length=len(text.rstrip()) - indent)
    return diagnose("AR105", place, NO_ENTRY, hint=mend_entry(text) or "write a ':' and a space after the key")


def mend_entry(text: str) -> str:
    """Say what a line lacks that was to be a key and its value; empty where it looks like neither."""
    if near := _NO_SPACE.match(text):
        return f"write a space after the ':' of '{near[1]}:'"
    bare = _NO_COLON.match(text)
    return f"write a ':' and a space after '{bare[1]}'" if bare else ""


def _bare_line(source: Source, problem: Problem) -> Diagnostic | None:
    """Recognise a line that lacks its ':', or the space behind it."""
    if "could not find expected ':'" not in problem.text or problem.began is None:
        return None
    line, column = source.position(problem.began)
    text = source.line(line)[column - 1 :].rstrip()
    hint = mend_entry(text)
    return diagnose("AR105", source.place(problem.began, len(text)), NO_ENTRY, hint=hint) if hint else None


def _known(source: Source, problem: Problem) -> Diagnostic:
    for meaning in _MEANINGS:
        if any(needle in problem.text for needle in meaning.needles):
            index = problem.at if problem.began is None or not meaning.at_context else problem.began
            token = _TOKEN.match(source.text, index) if meaning.code == "AR112" else None
            place = source.place(index, len(token[0]) if token else 1)
            return diagnose(meaning.code, place, meaning.message, hint=meaning.hint)
    return diagnose("AR105", source.place(problem.at), f"this is not valid YAML: {problem.text}")
