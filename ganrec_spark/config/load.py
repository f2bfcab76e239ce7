"""Load the configuration in layers: defaults < file < environment < --set.

Maps merge, too: a key given in one layer stands beside those of the layers below, and null takes one away.
Environment: GANREC_SPARSITY__MAX_RATINGS=10 sets sparsity.max_ratings. Values are read as YAML.
"""

import json
import logging
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from ganrec_spark.config.sections import Config
from ganrec_spark.errors import ConfigError

ENV_PREFIX = "GANREC_"
# What keys and sections were called by earlier versions.
_RENAMED = {
    "partition": "parquet",
    "generator.history_half_life": "generator.history_half_life_visits",
    "item_item.history_half_life": "item_item.history_half_life_visits",
    "item_item.pair_half_life": "item_item.pair_half_life_visits",
    "recommend.available_items": "rules.available_items",
    "recommend.blocked_items": "rules.blocked_items",
}
_LOG = logging.getLogger("ganrec")


def load_config(
    path: str | Path | None = None,
    overrides: Iterable[str] = (),
    environ: Mapping[str, str] | None = None,
) -> Config:
    """Merge defaults, the YAML file at `path`, GANREC_* variables and `key.sub=value` overrides.

    Raises ConfigError naming the key, the value found and what is allowed.
    """
    layers = [_read_file(path)] if path else []
    layers.append(_read_environment(os.environ if environ is None else environ))
    layers.append(_read_overrides(overrides))
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = _deep_merge(merged, _by_todays_names(layer))
    return _validated(_over_default_maps(merged, Config()))


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """Return the configuration with `section.key` values replaced. Raises ConfigError as load_config does."""
    merged = config.model_dump(mode="json")
    for key, value in values.items():
        section, _, name = key.partition(".")
        merged[section] = {**merged[section], name: value}
    return _validated(merged)


def from_environment(key: str, value: str) -> str:
    """Return the value of a key with ${NAME} filled in. Raises ConfigError where the environment has no such name."""

    def lookup(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise ConfigError(f"{key}: expected environment variable {match[1]}, found none")
        return os.environ[match[1]]

    return re.sub(r"\$\{(\w+)\}", lookup, value)


def settings_json(config: Config, names: Iterable[str]) -> str:
    """Return the canonical JSON of the named sections and keys (`section.key`), for fingerprints."""
    content = config.model_dump(mode="json")

    def value(name: str) -> Any:
        section, _, key = name.partition(".")
        return content[section][key] if key else content[section]

    return json.dumps({name: value(name) for name in names}, sort_keys=True)


def restricted(config: Config, names: Iterable[str]) -> Config:
    """Return the configuration with defaults everywhere but in the named sections and keys (`section.key`)."""
    kept: dict[str, BaseModel] = {}
    for name in names:
        section, _, key = name.partition(".")
        own = getattr(config, section)
        if key:
            default = kept.get(section, getattr(Config(), section))
            own = default.model_copy(update={key: getattr(own, key)})
        kept[section] = own
    return Config.model_construct(**kept)  # type: ignore[arg-type]


def _validated(content: dict[str, Any]) -> Config:
    _require_no_truth_as_key(content, "")
    try:
        # JSON mode: strict about types, yet lists may become tuples. YAML reads dates as objects.
        return Config.model_validate_json(json.dumps(content, default=str))
    except ValidationError as error:
        raise ConfigError(_explain(error)) from None


def _require_no_truth_as_key(content: dict[Any, Any], above: str) -> None:
    for key, value in content.items():
        if isinstance(key, bool):
            raise ConfigError(
                f"{above or 'configuration'}: found {key} as a key; quote on, off, yes, no: YAML takes them so"
            )
        if isinstance(value, dict):
            _require_no_truth_as_key(value, f"{above}.{key}".lstrip("."))


def _by_todays_names(layer: dict[str, Any]) -> dict[str, Any]:
    """Return a layer with keys that were called otherwise by their names of today, and say so."""
    for old, new in _RENAMED.items():
        section, last = old.rpartition(".")[::2]
        above = layer.get(section) if section else layer
        if not isinstance(above, dict) or last not in above:
            continue
        value = above.pop(last)
        section, name = new.rpartition(".")[::2]
        target = layer.setdefault(section, {}) if section else layer
        if not isinstance(target, dict):
            continue  # what is wrong with the section is told of it
        merged = _deep_merge(value, target[name]) if isinstance(value, dict) and name in target else value
        target[name] = merged if isinstance(value, dict) else target.get(name, merged)
        _LOG.warning("%s is called %s now (CHANGELOG.md)", old, new)
    return layer


def _read_file(path: str | Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"configuration file '{path}': expected a readable YAML file, found: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"configuration file '{path}': not valid YAML: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"configuration file '{path}': expected sections with keys, found {type(content).__name__}")
    return content


def _read_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name in sorted(environ):
        if not name.startswith(ENV_PREFIX) or "__" not in name:
            continue  # GANREC_CACHE and the like steer the Makefile
        keys = name.removeprefix(ENV_PREFIX).lower().split("__")
        _put(result, keys, environ[name], f"environment variable {name}")
    return result


def _read_overrides(overrides: Iterable[str]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set '{override}': expected section.key=value")
        _put(result, key.strip().split("."), value, f"--set {key}")
    return result


def _put(target: dict[str, Any], keys: list[str], text: str, where: str) -> None:
    try:
        value = yaml.safe_load(text) if text else None
        json.dumps(value)
    except (yaml.YAMLError, TypeError) as error:
        if isinstance(error, yaml.YAMLError):
            raise ConfigError(f"{where}: value '{text}' is not valid YAML") from error
        value = text  # a date, which YAML reads as an object
    for key in keys[:-1]:
        target = target.setdefault(key, {})
        if not isinstance(target, dict):
            raise ConfigError(f"{where}: '{key}' is both a value and a section")
    target[keys[-1]] = value


def _deep_merge(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        old = merged.get(key)
        merged[key] = _deep_merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _over_default_maps(content: dict[str, Any], defaults: BaseModel) -> dict[str, Any]:
    """Return `content` with its maps laid over those of the defaults; null takes a key away.

    Properties of a catalog of another type start from nothing.
    """
    result = dict(content)
    for name, given in content.items():
        default = getattr(defaults, name, None)
        if not isinstance(given, dict):
            continue
        if isinstance(default, BaseModel):
            result[name] = _over_default_maps(given, default)
        elif isinstance(default, dict):
            base = {} if default.get("type") != given.get("type", default.get("type")) else default
            result[name] = {key: value for key, value in {**base, **given}.items() if value is not None}
    return result


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        # Where a key takes one of several types, pydantic adds the type that it tried.
        parts = [str(part) for part in problem["loc"] if not str(part).startswith(("constrained-", "literal["))]
        key = ".".join(parts) or "configuration"
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            known = _known_keys(problem["loc"][:-1])
            lines.append(f"{key}: unknown key; allowed here: {', '.join(known)}")
        else:
            found = "" if isinstance(problem["input"], dict) else f"; found {problem['input']!r}"
            lines.append(f"{key}: {message}{found}")
    return "configuration: " + "\n".join(lines)


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    model: Any = Config
    for part in location:
        field = model.model_fields.get(part) if hasattr(model, "model_fields") else None
        model = field.annotation if field else None
    return sorted(model.model_fields) if hasattr(model, "model_fields") else []
