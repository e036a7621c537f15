"""What the environment says about the process itself, `AIORESILIENCE_CONFIG` and its like, by pydantic-settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, PositiveInt, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from aioresilience.config.diagnostics import ConfigError, Diagnostic, diagnose
from aioresilience.config.encoding import MAX_BYTES
from aioresilience.config.places import Place
from aioresilience.config.report import shown

PREFIX: Final = "AIORESILIENCE_"
_EXPECTED: Final = {"bool_parsing": "true or false", "int_parsing": "a whole number", "greater_than": "1 or more"}


def _joined(value: object) -> object:
    """Split what is joined as in PATH."""
    return tuple(path for path in value.split(os.pathsep) if path) if isinstance(value, str) else value


class ProcessSettings(BaseSettings):
    """Settings of one process; an empty variable counts as unset."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True)

    config: Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_joined)] = Field(
        default=(), description="Files, low to high, joined by the path separator of the system."
    )
    config_inline: str | None = Field(default=None, description="A document as YAML text, above the files.")
    fallback_config: Path | None = Field(
        default=None, description="File to start with where the others are missing or broken."
    )
    environment: str | None = Field(default=None, description="Overlay of the file to apply, such as production.")
    service: str | None = Field(default=None, description="Name of this service; a file for another one is refused.")
    root: Path | None = Field(default=None, description="Folder that includes stay below; unset: that of the file.")
    watch: bool = Field(default=False, description="Whether the default registry applies changes by itself.")
    strict: bool = Field(default=False, description="Whether a variable that fits no policy is an error.")
    max_bytes: PositiveInt = Field(default=MAX_BYTES, description="Most bytes of one file; 8 MiB unless set.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take nothing but what was given: the environment is read by `process_settings`."""
        return (init_settings,)


class _Given(EnvSettingsSource):
    """The variables of a mapping instead of those of the process."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = {name.lower(): value for name, value in environ.items() if name.startswith(PREFIX) and value}
        super().__init__(ProcessSettings)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return self._environ


def process_settings(environ: Mapping[str, str]) -> ProcessSettings:
    """Read the settings of a process from its variables; raises ConfigError that names each malformed one."""
    given: dict[str, Any] = _Given(environ)()
    try:
        return ProcessSettings(**given)
    except ValidationError as error:
        raise ConfigError(map(_malformed, error.errors())) from None


def _malformed(error: ErrorDetails) -> Diagnostic:
    place = Place("environment", f"{PREFIX}{error['loc'][0]}".upper())
    expected = _EXPECTED.get(error["type"], "another value")
    return diagnose("AR323", place, f"expected {expected}, got {shown(error['input'])}", hint="correct it, or unset it")
