"""What finds the entities of captions: a pipeline of spaCy, or a function of the user's own."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

from _newsclippings.embed.callables import load_callable
from _newsclippings.embed.libraries import TRIAL_CAPTION, describe, find_versions, report_library_errors, require
from _newsclippings.errors import ConfigError, DataNotFoundError
from _newsclippings.storage import compute_sha256
from _newsclippings.text import short_repr

EXTRA: Final = 'pip install "newsclippings[entities]"'
SPACY, OWN = "spacy:", "py:"
_LINKER, _NER = "entity_linker", "ner"
_UNUSED = ("tagger", "morphologizer", "parser", "senter", "sentencizer", "attribute_ruler", "lemmatizer", "textcat")
_BATCH = 64  # captions of a batch of spaCy
_NO_ID = ("", "NIL")  # what spaCy's linkers give for an entity that they do not know


@dataclass(frozen=True)
class EntityModel:
    """Finds the entities of captions.

    Attributes:
        find: gets a list of captions; returns for each a list of its entities, in the order of the caption: (text,
            label), or, if `linked`, (text, label, id), where the id may be None.
        facts: what decides the entities, as JSON: model, version, SHA-256 of the weights. Another value means others.
        linked: whether entities have ids, such as the title of a page of Wikipedia.
    """

    find: Callable[[list[str]], Sequence[Sequence[Sequence[Any]]]]
    facts: dict[str, Any]
    linked: bool = False


class Entity(NamedTuple):
    """An entity of a caption."""

    text: str
    label: str
    id: str | None = None


def open_entity_model(model: str | EntityModel) -> EntityModel:
    """Open what finds entities, and try it on a short caption.

    Args:
        model: `spacy:NAME`, a pipeline of spaCy, installed or a folder; `MODULE:FUNCTION`, your own function from a
            list of captions to lists of (text, label), or an `EntityModel` of yours; or an `EntityModel` itself.

    Raises:
        ConfigError: it does not exist, or returns something else than entities.
        DataNotFoundError, BadFileError: the pipeline is not installed, or damaged.
        MissingDependencyError: spaCy is not installed.
    """
    if isinstance(model, EntityModel):
        opened = model
    elif not isinstance(model, str):
        message = f"model={short_repr(model)}: expected spacy:NAME, MODULE:FUNCTION, or an EntityModel."
        raise ConfigError(message)
    elif model.startswith(SPACY):
        opened = _open_spacy(model)
    elif ":" in model:
        opened = _open_own(model.removeprefix(OWN))
    else:
        message = f"model={short_repr(model)}: expected spacy:NAME, such as spacy:en_core_web_sm, or MODULE:FUNCTION."
        raise ConfigError(message)
    try:
        facts = json.loads(json.dumps(opened.facts, allow_nan=False))  # tuples become lists, as a plan reads them
        plain = isinstance(facts, dict)
    except (TypeError, ValueError):
        plain = False
    if not plain or not callable(opened.find) or not isinstance(opened.linked, bool):
        message = (
            f"{short_repr(model)}: expected a function find, a dict of JSON as facts, and true or false as linked."
        )
        raise ConfigError(message)
    opened = replace(opened, facts=facts)
    find_entities(opened, [TRIAL_CAPTION])
    return opened


def find_entities(model: EntityModel, captions: list[str]) -> list[list[Entity]]:
    """Find the entities of captions.

    Raises:
        ConfigError: the model returned something else.
    """
    try:
        answer = model.find(captions)
    except Exception as error:
        error.add_note(f"{_name(model)} failed at {len(captions)} captions, the first of which is {captions[0]!r}.")
        raise
    answer = _to_list(model, answer, f"a list of {len(captions)} lists of entities")
    if len(answer) != len(captions):
        message = f"{_name(model)} returned {len(answer)} lists of entities for {len(captions)} captions."
        raise ConfigError(message)
    return [[*_read(model, entities)] for entities in answer]


def _read(model: EntityModel, entities: Any) -> Iterator[Entity]:
    for entity in _to_list(model, entities, "a list of entities"):
        values = _to_list(model, entity, "an entity")
        texts = values[:2]
        sound = len(values) == 2 + model.linked and all(isinstance(text, str) and text.strip() for text in texts)
        sound = sound and all(text is None or (isinstance(text, str) and text) for text in values[2:])
        if not sound or not all(map(_is_unicode, values)):
            expected = "(text, label, id), where the id may be None" if model.linked else "(text, label)"
            message = f"{_name(model)} returned {short_repr(entity)} as an entity; expected {expected}."
            raise ConfigError(message)
        yield Entity(*values)


def _to_list(model: EntityModel, value: Any, what: str) -> list[Any]:
    if isinstance(value, list | tuple):
        return [*value]
    message = f"{_name(model)} returned {short_repr(value)}; expected {what}."
    raise ConfigError(message)


def _is_unicode(text: str | None) -> bool:
    try:
        return text is None or bool(text.encode())
    except UnicodeEncodeError:  # a lone surrogate
        return False


def _name(model: EntityModel) -> str:
    return str(model.facts.get("model", "The model of entities"))


def _open_own(name: str) -> EntityModel:
    found, digest = load_callable(name)
    if isinstance(found, EntityModel):
        facts, opened = found.facts, found
    elif callable(found):
        facts, opened = {}, EntityModel(found, {})
    else:
        message = f"{name} is {short_repr(found)}, and neither a function nor an EntityModel."
        raise ConfigError(message)
    return replace(opened, facts={**facts, "model": f"{OWN}{name}", "source_sha256": digest})


def _open_spacy(model: str) -> EntityModel:
    """Open a pipeline of spaCy, without the parts that entities do not need."""
    require(model, ["spacy"], EXTRA)
    name = model.removeprefix(SPACY)
    with report_library_errors("spaCy", "cannot be loaded"):
        import spacy
    try:
        with report_library_errors(model, "cannot be loaded"):
            nlp = spacy.load(name)
            linked = _LINKER in nlp.pipe_names
            if not linked:  # a linker needs sentences
                for pipe in {*_UNUSED} & {*nlp.pipe_names}:
                    nlp.remove_pipe(pipe)
    except Exception as error:
        if not isinstance(error.__cause__, OSError):
            raise
        message = f"{model} is not installed: {describe(error.__cause__)} Install it: python -m spacy download {name}"
        raise DataNotFoundError(message) from error
    if _NER not in nlp.pipe_names and "entity_ruler" not in nlp.pipe_names:
        message = f"{model} finds no entities: it has {', '.join(nlp.pipe_names) or 'no parts'}. Choose another one."
        raise ConfigError(message)

    def find(captions: list[str]) -> list[list[Any]]:
        with report_library_errors(model, "failed"):
            documents = nlp.pipe(captions, batch_size=_BATCH)
            return [[_take(entity, linked) for entity in each.ents if entity.text.strip()] for each in documents]

    facts = {"model": model, "version": nlp.meta.get("version"), "pipeline": nlp.pipe_names}
    facts |= {"weights_sha256": _hash_folder(nlp.path), "versions": find_versions("spacy")}
    return EntityModel(find, facts, linked)


def _take(entity: Any, linked: bool) -> tuple[str | None, ...]:
    found = (entity.text, entity.label_)
    return (*found, None if entity.kb_id_ in _NO_ID else entity.kb_id_) if linked else found


def _hash_folder(path: Any) -> str | None:
    """Return a SHA-256 of all files of a pipeline; None if it is of none."""
    if path is None:
        return None
    files = sorted(each for each in Path(path).rglob("*") if each.is_file() and "__pycache__" not in each.parts)
    lines = [f"{compute_sha256(each)}  {each.relative_to(path).as_posix()}\n" for each in files]
    return sha256("".join(lines).encode()).hexdigest()
