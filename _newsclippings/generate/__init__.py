"""Make new matches from any corpus: captions with convincing pictures of others, by rules."""

from _newsclippings.generate.assign import REASONS, Matching, balance, close, find_margins, match
from _newsclippings.generate.audit_page import check_audit_folder, write_audit, write_page
from _newsclippings.generate.audit_report import Audit, audit
from _newsclippings.generate.entities import Entities, make_entities
from _newsclippings.generate.entity_files import EntityTable, read_entities
from _newsclippings.generate.make import GenerateReport, generate
from _newsclippings.generate.read import GeneratedFolder
from _newsclippings.generate.rules import LABELS, METHODS, Method, Recipe, Rule, parse_recipe
from _newsclippings.generate.search import Measure, Pool, normalise
from _newsclippings.generate.verify import GeneratedReport, verify_generated

__all__ = [
    "LABELS",
    "METHODS",
    "REASONS",
    "Audit",
    "Entities",
    "EntityTable",
    "GenerateReport",
    "GeneratedFolder",
    "GeneratedReport",
    "Matching",
    "Measure",
    "Method",
    "Pool",
    "Recipe",
    "Rule",
    "audit",
    "balance",
    "check_audit_folder",
    "close",
    "find_margins",
    "generate",
    "make_entities",
    "match",
    "normalise",
    "parse_recipe",
    "read_entities",
    "verify_generated",
    "write_audit",
    "write_page",
]
