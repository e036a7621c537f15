"""The diagnostics of the document: its fields, AR2xx, and its references, AR3xx."""

from __future__ import annotations

from collections.abc import Mapping

from aioresilience.config.entry import Entry

DOCUMENT: Mapping[str, Entry] = {
    "AR201": Entry(
        "The field is unknown.",
        "The key is not one of those that are valid at this place.",
        "Take the name that the hint suggests, or look it up in the reference.",
        "retry: {max_atempts: 3}",
    ),
    "AR202": Entry(
        "A required field is missing.",
        "The block cannot work without this field.",
        "Add the field.",
        "overrides: [{policy: payments, set: {timeout: 3s}}]",
    ),
    "AR203": Entry(
        "The value has the wrong type.",
        "For example, a text stands where a number is expected, or a list where a block is.",
        "Write a value of the type that the message names.",
        "retry: {max_attempts: many}",
    ),
    "AR204": Entry(
        "The value is out of range.",
        "The number is negative, zero where that makes no sense, too large, or not finite.",
        "Write a number in the range that the message names.",
        "bulkhead: {max_concurrent: 0}",
    ),
    "AR205": Entry(
        "This is not a duration.",
        "Durations are numbers with a unit: ms, s, m, h or d.",
        "Write for example `500ms`, `2s` or `1m30s`.",
        "timeout: 2 seconds",
    ),
    "AR206": Entry(
        "This is not a rate.",
        "Rates are a whole number per second, minute, hour or day.",
        "Write for example `100/second`, or `{permits: 300, per: 5m}`.",
        "rate_limiter: 100 per second",
    ),
    "AR207": Entry(
        "This is not a percentage.",
        "Percentages are a number and a percent sign.",
        "Write for example `50%`.",
        "circuit_breaker: {failure_rate: 50 percent}",
    ),
    "AR208": Entry(
        "This is not a status code.",
        "Status codes are numbers from 100 to 599 or ranges of them.",
        "Write for example `502` or `502-504`.",
        "status: [5xx]",
    ),
    "AR209": Entry(
        "The name is malformed.",
        "Names are lower-case words of letters and digits, joined by `-` or `.`, and begin with a letter.",
        "Rename it, for example `card-payments`.",
        "policies: {Card_Payments: {}}",
    ),
    "AR210": Entry(
        "The value is not one of the choices.",
        "The field accepts a few words only.",
        "Write one of those that the message lists.",
        "settings: {on_removed: delete}",
    ),
    "AR211": Entry(
        "The version of the document is not supported.",
        "This library reads documents of version 1.",
        "Write `version: 1`, or upgrade the library.",
        "version: 2",
    ),
    "AR212": Entry(
        "The document asks for another release of the library.",
        "The installed release is outside of `requires`.",
        "Install a release that fits, or change `requires`.",
        'requires: ">=9"',
    ),
    "AR213": Entry(
        "The document belongs to another service.",
        "`service` differs from the environment variable `AIORESILIENCE_SERVICE`.",
        "Point the service at its own file.",
        "service: search",
    ),
    "AR214": Entry(
        "Two fields contradict each other.",
        "The fields of a block only make sense in certain combinations or in a certain order of size.",
        "Change one of the two as the message says.",
        "backpressure: {high_water_mark: 10, low_water_mark: 20}",
    ),
    "AR215": Entry(
        "`use` stands beside other fields.",
        "A shared instance brings its own configuration; only `mode` may stand beside `use`.",
        "Move the other fields to the block under `shared`.",
        "bulkhead: {use: db-pool, max_waiting: 3}",
    ),
    "AR216": Entry(
        "This is not a point in time.",
        "Dates are written as in RFC 3339, with a time zone.",
        "Write for example `2026-12-01T00:00:00Z`.",
        "expires: tomorrow",
    ),
    "AR217": Entry(
        "The interpolation is malformed.",
        "`${…}` holds something else than a name, a name with a default, or a name with a message.",
        "Write `${NAME}`, `${NAME:-default}` or `${NAME:?message}`; a plain dollar sign is `$$`.",
        "url: ${REDIS URL}",
    ),
    "AR218": Entry(
        "`end` must be the last key, and true.",
        "The key proves that the file is whole, which it only can as the last one.",
        "Move `end: true` to the end of the file.",
        "end: false",
    ),
    "AR219": Entry(
        "An entry stands twice.",
        "The list may name each entry only once.",
        "Delete one of the two.",
        "order: [retry, retry, timeout]",
    ),
    "AR220": Entry(
        "The file belongs to another program.",
        "Its keys are those of a Kubernetes manifest, a Compose file, or another library's configuration.",
        "Give the path of a resilience.yaml; what stands in a ConfigMap goes into a file of its own.",
        "apiVersion: v1\nkind: ConfigMap",
    ),
    "AR301": Entry(
        "The template is unknown.",
        "`extends` names a template that no file or pack brings in.",
        "Correct the name, or include the file or pack that has the template.",
        "extends: http-clent",
    ),
    "AR302": Entry(
        "Templates extend each other in a circle.",
        "Following `extends` leads back to the same template.",
        "Remove one of the steps that the message lists.",
        "templates: {a: {extends: b}, b: {extends: a}}",
    ),
    "AR303": Entry(
        "The shared block is unknown.",
        "`use` names a block that is not under `shared`, or that has no such pattern.",
        "Correct the name, or add the block under `shared`.",
        "bulkhead: {use: db-pol}",
    ),
    "AR304": Entry(
        "The backend is unknown.",
        "`backend` names an entry that is not under `backends`.",
        "Correct the name, or add the entry under `backends`.",
        "rate_limiter: {rate: 5/second, backend: mian}",
    ),
    "AR305": Entry(
        "The callable is unknown.",
        "The service has not registered a callable of this name.",
        "Pass it in `callables=` or call `registry.register` before loading.",
        "fallback: {call: cached-qoute}",
    ),
    "AR306": Entry(
        "The exception cannot be found.",
        "The name is no builtin, its package is not installed, or its module has no such attribute.",
        "Correct the dotted path, or install the package.",
        "exceptions: [ConectionError]",
    ),
    "AR307": Entry(
        "The name is not an exception.",
        "The path leads to something that is not a class derived from Exception.",
        "Name an exception class.",
        "exceptions: [int]",
    ),
    "AR308": Entry(
        "The environment variable is not set.",
        "`${NAME}` has neither a value nor a default.",
        "Set the variable, or write `${NAME:-default}`.",
        "url: ${REDIS_URL}",
    ),
    "AR309": Entry(
        "The included file cannot be found.",
        "No file is at the path, seen from the folder of the including file.",
        "Correct the path.",
        "include: [comon/http.yaml]",
    ),
    "AR310": Entry(
        "The included file lies outside of the root.",
        "Includes stay below the folder of the first file, or below `AIORESILIENCE_ROOT`.",
        "Move the file below that folder, or set `AIORESILIENCE_ROOT`.",
        "include: [../../etc/secrets.yaml]",
    ),
    "AR311": Entry(
        "Files include each other in a circle.",
        "Following `include` leads back to the same file.",
        "Remove one of the steps that the message lists.",
        "include: [resilience.yaml]",
    ),
    "AR312": Entry(
        "The policy pack is unknown.",
        "No pack of this name comes with the library.",
        "Take one of the packs that the message lists.",
        "include: ['pack:http-clent']",
    ),
    "AR313": Entry(
        "The environment is unknown.",
        "The chosen environment has no entry under `environments`.",
        "Correct the name, or add the entry.",
        "AIORESILIENCE_ENVIRONMENT=prodution",
    ),
    "AR314": Entry(
        "The policy is unknown.",
        "An override or a reference names a policy that the document does not have.",
        "Correct the name, or delete the entry.",
        "overrides: [{policy: paymnets, set: {}}]",
    ),
    "AR315": Entry(
        "An environment variable fits no policy, or several.",
        "In variable names `_` stands for `-` and for `.`, so a name may fit several policies or none.",
        "Rename the variable or the policy, or unset the variable.",
        "AIORESILIENCE_POLICIES__PAYMETS__TIMEOUT=3s",
    ),
    "AR316": Entry(
        "`order` leaves out a pattern.",
        "`order` must name every pattern that the policy has, its inherited ones too.",
        "Add the pattern to `order`, or remove it from the policy with null.",
        "order: [retry]",
    ),
    "AR317": Entry(
        "The secret file cannot be read.",
        "The file named by `{file: …}` does not exist or may not be read.",
        "Mount the file, or correct the path.",
        "url: {file: /run/secrets/redis}",
    ),
    "AR318": Entry(
        "The file looks cut off.",
        "The file ended with `end: true` before, and does not now: a write was cut off, or is not finished.",
        "Write the whole file, with `end: true` as its last line.",
    ),
    "AR319": Entry(
        "The file drops most policies.",
        "More than half of the policies would go at once, as they do when a file is cut off between two policies.",
        "If it is meant, set `settings: {shrink: allow}`, or end the file with `end: true`.",
    ),
    "AR320": Entry(
        "The file removes policies that must stay.",
        "`settings: {on_removed: reject}` forbids a reload to remove a policy.",
        "Put the policies back, or set `on_removed: keep`.",
    ),
    "AR321": Entry(
        "A pattern refused its new config.",
        "A pattern that is in use raised when it was given the config of the new document; everything was put back.",
        "Correct the value that the message names; for a pattern of your own, check values in its config class.",
    ),
    "AR322": Entry(
        "Another reload has not come to its end.",
        "Reloads come one after the other, and the one before has taken half a minute: a file system may hang.",
        "Look at `reloading` in the status, which names what began it; mend the mount, then ask again.",
    ),
    "AR323": Entry(
        "The setting in the environment is malformed.",
        "`WATCH` and `STRICT` take true or false, `MAX_BYTES` takes a whole number of bytes.",
        "Write true, false, or a number such as 8388608; or unset the variable.",
        "AIORESILIENCE_MAX_BYTES=8M",
    ),
    "AR324": Entry(
        "No environment variable of this name means anything.",
        "It begins with `AIORESILIENCE_`, and goes on with neither a setting nor a section of the document.",
        "Correct the name, or unset the variable.",
        "AIORESILIENCE_ENVIROMENT=production",
    ),
    "AR325": Entry(
        "A pattern needs a library that is not installed.",
        "Limits on a server need redis, sampling CPU and memory needs psutil; an extra of this package brings each.",
        "Install it where the service runs: `pip install 'aioresilience[redis]'` or `'aioresilience[system]'`.",
    ),
    "AR330": Entry(
        "The route leads to an unknown policy.",
        "No policy of the document has this name.",
        "Correct the name, or add the policy.",
        "routes: [{host: api.example.invalid, policy: paymnets}]",
    ),
}
