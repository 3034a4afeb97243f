"""YAML specifications: machine, environment and properties with positions, to a `Model`."""

from verifier.spec.grammar import parse_expression
from verifier.spec.load import load, schema
from verifier.spec.model import Environment, Model, Property, ScheduleItem, Verdict
from verifier.spec.names import Names
from verifier.spec.sources import project_root

__all__ = [
    "Environment",
    "Model",
    "Names",
    "Property",
    "ScheduleItem",
    "Verdict",
    "load",
    "parse_expression",
    "project_root",
    "schema",
]
