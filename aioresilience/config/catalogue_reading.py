"""The diagnostics of reading, AR1xx: what can be wrong with a text before it is a document."""

from __future__ import annotations

from collections.abc import Mapping

from aioresilience.config.entry import Entry

READING: Mapping[str, Entry] = {
    "AR101": Entry(
        "The file cannot be read.",
        "The file does not exist, is a folder, or this process may not read it.",
        "Check the path and the permissions; a relative path starts at the working directory.",
        "aioresilience check no-such-file.yaml",
    ),
    "AR102": Entry(
        "The file is too large.",
        "The text has more bytes than `AIORESILIENCE_MAX_BYTES` allows, 8 MiB by default.",
        "Split the file with `include`, or raise the limit.",
        "",
    ),
    "AR103": Entry(
        "The text is not UTF-8.",
        "The bytes are UTF-16, UTF-32, an 8-bit encoding such as Latin-1, or no text at all, as in a picture.",
        "Save the file as UTF-8; a byte order mark is allowed.",
        "",
    ),
    "AR104": Entry(
        "A character is not allowed in YAML.",
        "A NUL, another control character, or a line separator that editors do not show stands in the text.",
        "Delete the character, or write it as an escape inside double quotes.",
        "",
    ),
    "AR105": Entry(
        "The text is not valid YAML.",
        "A quote or bracket is left open, an indentation does not fit, or a character means something else in YAML.",
        "Mend the text at the caret; quote a value that contains `:`, `#`, `@`, `%` or a bracket.",
        "timeout: @5s",
    ),
    "AR106": Entry(
        "A tab indents the line.",
        "YAML does not allow tabs in indentation.",
        "Indent with spaces, two for each level.",
        "policies:\n\tpayments: {timeout: 2s}",
    ),
    "AR107": Entry(
        "A template was not rendered.",
        "The text still holds `{{ … }}` or `{% … %}` of Helm, Jinja or Ansible.",
        "Render the template first, or use `${NAME}`, which aioresilience fills in itself; for text that begins so, "
        "write the brace as `\\x7b` in double quotes.",
        "timeout: {{ .Values.timeout }}",
    ),
    "AR108": Entry(
        "A `${…}` inside braces or brackets needs quotes.",
        "In flow style the brace of `${…}` would open a mapping.",
        "Put the whole value in double quotes.",
        "main: {type: redis, url: ${REDIS_URL}}",
    ),
    "AR109": Entry(
        "A key stands twice in one block.",
        "YAML would let one of the two values vanish silently.",
        "Delete one of them, or merge the two blocks.",
        "timeout: 2s\ntimeout: 3s",
    ),
    "AR110": Entry(
        "A key is not a string.",
        "Without quotes, numbers, true, null, lists and blocks are not strings.",
        "Put the key in quotes.",
        "404: {timeout: 2s}",
    ),
    "AR111": Entry(
        "YAML merge keys are not used here.",
        "`<<` copies a block without saying so where the values came from.",
        "Write the block as a template and name it with `extends`.",
        "<<: *base",
    ),
    "AR112": Entry(
        "YAML tags are not allowed.",
        "A tag such as `!!python/object` asks the reader to build something other than plain values.",
        "Delete the tag; quote a value that must be a string.",
        "timeout: !!str 5",
    ),
    "AR113": Entry(
        "The document is nested too deeply.",
        "There are more than 32 levels of blocks and lists.",
        "Flatten the document; a policy needs five levels.",
        "",
    ),
    "AR114": Entry(
        "The document is too large once it is expanded.",
        "Its aliases repeat too much, or it has too many values for its size limit.",
        "Use templates and `extends` instead of aliases.",
        "b: [*a, *a, *a, *a]",
    ),
    "AR115": Entry(
        "An alias stands inside its own anchor.",
        "The value would contain itself without end.",
        "Remove the alias, or move the anchor.",
        "a: &a [*a]",
    ),
    "AR116": Entry(
        "An alias has no anchor.",
        "No `&name` comes before this `*name` in the file.",
        "Define the anchor above, or quote the value if the `*` belongs to it.",
        "timeout: *fast",
    ),
    "AR117": Entry(
        "The file holds several documents.",
        "A line `---` begins a second document, which would be ignored.",
        "Keep one document in a file and join files with `include`.",
        "version: 1\n---\nversion: 1",
    ),
    "AR118": Entry(
        "The document is empty.",
        "There is no text, or nothing but comments.",
        "Begin with `version: 1`.",
        "",
    ),
    "AR119": Entry(
        "The document is not a mapping.",
        "At the top stands a list or a single value instead of `key: value` lines.",
        "Begin with `version: 1` and give every key a colon and a space.",
        "- version: 1",
    ),
    "AR120": Entry(
        "The YAML directive is not supported.",
        "A line such as `%YAML 1.1` asks for other rules than those of YAML 1.2.",
        "Delete the line.",
        "%YAML 1.1\n---\nversion: 1",
    ),
    "AR121": Entry(
        "A number is too long.",
        "A number has more than 100 digits.",
        "Write a shorter number, or quote the value if it is text.",
        "",
    ),
    "AR199": Entry(
        "Reading stopped at too many errors.",
        "There are 100 errors or more; those that would have been found later are not shown.",
        "Mend the ones shown and check again.",
        "",
    ),
}
