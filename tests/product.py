"""Where the product's files lie, and which of its folders may import which."""

from pathlib import Path

ROOT = Path(__file__).parents[1]

# folder -> the folders that it may import
IMPORTS: dict[str, set[str]] = {
    "configuration": set(),
    "modeling": {"configuration"},
    "pipelines": set(),
    "visualization": set(),
    "recipes": {"configuration"},
    "data": {"configuration", "recipes"},
    "tasks": {"configuration", "modeling", "pipelines", "recipes", "data"},
    "training": {"configuration", "modeling", "pipelines", "recipes", "data", "tasks"},
    "hub": {"configuration", "modeling", "pipelines", "recipes", "data", "tasks", "training"},
    "trefoil": {
        "configuration",
        "modeling",
        "pipelines",
        "visualization",
        "recipes",
        "data",
        "tasks",
        "training",
        "hub",
    },
}
FILES = [file for folder in IMPORTS for file in sorted((ROOT / folder).rglob("*.py"))]
