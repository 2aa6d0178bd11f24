"""The command line: `trefoil new | recipes | debug | train | launch | evaluate | compare | publish | predict | translate | serve | demo | attend |
import | export | doctor | completion`."""

import argparse
import errno
import gc
import importlib.util
import json
import os
import re
import shlex
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .configuration.errors import UserError, reason
from .configuration.version import __version__
from .extensions import load_extensions
from .launch import (
    GOES_ON,
    LOST,
    LOST_CONTACT,
    MISTAKE,
    STOPPED,
    add_stopped_code,
    by_torch,
    lost_contact,
    ready_file,
    ready_files,
    start_missing_processes,
    tell_launcher,
    unused_devices,
    what_for,
)
from .runs import summary, what_to_install

if TYPE_CHECKING:
    from .hub.stock import Converted
    from .recipes.schema import Recipe
    from .training.measured import Measured

# of a file or folder that a user named
OF_PLACES = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG}
LINES_AT_A_TIME = 16  # that are answered before they are shown
OVERRIDES = "change a key of the recipe: key.sub=value, for example training.max_steps=1000"
# arguments that a shell completes by what lies on the disk
FILES = {"FILE", "FOLDER", "FILE|FOLDER", "folder", "input", "model", "output", "recipe", "source"}
SHELLS = ("bash", "zsh", "tcsh")

AS_MEASURED = "change a key of the recipe: batches.truncate=true, evaluation.num_beams=1"


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="trefoil", description="Train, measure, publish and use transformers.")
    parser.add_argument("--version", action="version", version=f"trefoil {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    new = commands.add_parser("new", help="write a recipe for your own data, by looking at it")
    new.add_argument("task", help="what the model is to do: classification, ner, translation …")
    new.add_argument("overrides", nargs="*", metavar="key=value", help="what you know better: data.columns.label=mood")
    new.add_argument("--data", required=True, metavar="FILE|FOLDER", help="a file, or a folder with train.csv …")
    new.add_argument("--minutes", type=_minutes, metavar="M", help="that it may train")
    new.add_argument("-o", "--output", type=Path, default="recipe.yaml", metavar="FILE", help="default: recipe.yaml")
    new.set_defaults(run=_new)

    recipes = commands.add_parser("recipes", help="list the recipes that come with the package, or print one")
    recipes.add_argument("name", nargs="?", help="default: list them")
    recipes.set_defaults(run=_recipes)

    debug = commands.add_parser("debug", help="tell what a recipe's data and model are like, and train nothing")
    debug.add_argument("recipe", help="a YAML file, or the name of a recipe that comes with the package")
    debug.add_argument("overrides", nargs="*", metavar="key=value", help=OVERRIDES)
    debug.set_defaults(run=_debug)

    train = commands.add_parser("train", help="train a model as a recipe says, or go on where it was left")
    train.add_argument("recipe", help="a YAML file, or the name of a recipe that comes with the package")
    train.add_argument("overrides", nargs="*", metavar="key=value", help=OVERRIDES)
    train.add_argument("--dry-run", action="store_true", help="take three steps and evaluate a few rows; keep nothing")
    train.add_argument("--json", action="store_true", help="print the results at the end, as JSON")
    _add_quiet(train)
    add_stopped_code(train)
    train.set_defaults(run=_train)

    launch = commands.add_parser("launch", help="list, print or write files to train on several devices or machines by")
    launch.add_argument("name", nargs="?", help="default: list them")
    launch.add_argument("-o", "--output", type=Path, metavar="FILE", help="write it there")
    launch.set_defaults(run=_launch)

    evaluate = commands.add_parser(
        "evaluate",
        help="measure a model: on the data of its recipe, or on a file of yours",
        epilog="example: trefoil evaluate runs/my-model --data reviews.csv --column label=mood",
    )
    evaluate.add_argument("folder", metavar="model", help="a run's folder, a published one, a stock one, or a Hub id")
    evaluate.add_argument("overrides", nargs="*", metavar="key=value", help=AS_MEASURED)
    _add_file(evaluate)
    evaluate.add_argument("--split", help="of the recipe's data (default: its test split)")
    evaluate.add_argument(
        "-o", "--output", type=Path, metavar="FOLDER", help="write results, predictions and pictures there"
    )
    evaluate.add_argument("--predictions", metavar="FILE", help="write what the model said, as JSON lines")
    evaluate.add_argument("--json", action="store_true", help="print JSON, and no tables")
    evaluate.add_argument(
        "--minimal-pairs",
        type=Path,
        metavar="FILE",
        help="measure a language model on pairs of sentences instead, columns good, bad (perhaps phenomenon, paradigm)",
    )
    evaluate.add_argument(
        "--harness",
        metavar="TASK,…",
        help="measure a language model by lm-evaluation-harness instead, on its tasks or YAML files of your own",
    )
    evaluate.add_argument(
        "--trust-recipe", action="store_true", help="read and fetch data that the folder's recipe names elsewhere"
    )
    evaluate.set_defaults(run=_evaluate)

    compare = commands.add_parser(
        "compare",
        help="tell whether one model is better than another on the same examples",
        epilog="example: trefoil compare runs/small runs/large --data reviews.csv",
    )
    compare.add_argument(
        "one", metavar="A", help="a model; without --data a run's folder, or one that trefoil evaluate -o wrote"
    )
    compare.add_argument("other", metavar="B", help="the other one")
    compare.add_argument("overrides", nargs="*", metavar="key=value", help=AS_MEASURED)
    _add_file(compare)
    compare.add_argument("--json", action="store_true", help="print JSON, and no tables")
    compare.set_defaults(run=_compare)

    publish = commands.add_parser("publish", help="write a folder that transformers alone can load")
    publish.add_argument("source", nargs="?", help="a run's folder, or one that save_pretrained wrote")
    publish.add_argument("output", nargs="?", help="the folder to write")
    publish.add_argument("--check", metavar="FOLDER", help="check a published folder instead, in a clean process")
    publish.add_argument("--trust-remote-code", action="store_true", help="with --check: let any code in FOLDER run")
    publish.add_argument(
        "--merge", action="store_true", help="of an adapter: merge it into its base, and publish the whole model"
    )
    publish.add_argument("--base-model", metavar="NAME/MODEL", help="the Hub id of what it was fine-tuned from")
    publish.add_argument("--overwrite", action="store_true", help="replace a published folder")
    publish.add_argument("--push-to-hub", metavar="NAME/MODEL", help="also push it to the Hub")
    publish.add_argument("--private", action="store_true", help="make a new Hub repository private")
    publish.add_argument(
        "--max-shard-size", type=_size, default="5GB", metavar="SIZE", help="split larger weights (default: 5GB)"
    )
    publish.add_argument(
        "--dtype",
        choices=("bfloat16", "float16"),
        help="store the weights rounded to half their size (default: as they are)",
    )
    publish.add_argument("--title", help="the model card's title (default: the model's name)")
    publish.add_argument("--license", help="the weights' licence for the model card, such as apache-2.0")
    publish.add_argument(
        "--example",
        type=_text,
        metavar="TEXT",
        help="what the model is shown with (default: a row that was not trained on; if pushed at once, none of your data)",
    )
    publish.add_argument(
        "--question",
        type=_text,
        metavar="TEXT",
        help="with --example: the question about it, or the second text of a pair",
    )
    publish.add_argument("--space", action="store_true", help="add a page to try it on, so that it runs as a Hub Space")
    _add_quiet(publish)
    publish.set_defaults(run=_publish)

    demo = commands.add_parser("demo", help="open a page in the browser to try a model on, or to train one")
    demo.add_argument(
        "model", nargs="?", help="a run's folder, a published one, or a Hub id (default: train one on the page)"
    )
    demo.add_argument(
        "--folder", type=Path, default="runs", metavar="DIR", help="where what is trained there lies (default: runs)"
    )
    demo.add_argument("--host", default="127.0.0.1", help="the address to serve at (default: this machine only)")
    demo.add_argument("--port", type=_port, metavar="N", help="default: the first free one from 7860")
    demo.set_defaults(run=_demo)

    predict = commands.add_parser(
        "predict", help="use a model of any task: on texts, lines of standard input, or a file"
    )
    _add_prediction(predict)
    predict.add_argument("--task", help="as the Hub calls it (default: what the model was trained for)")
    predict.add_argument("--top-k", type=_positive, metavar="N", help="the N best labels, answers or words")
    predict.add_argument("--question", type=_text, metavar="TEXT", help="to answer from each text")
    predict.add_argument("--context", type=_text, metavar="TEXT", help="to answer each text from")
    predict.add_argument("--temperature", type=float, metavar="T", help="draw words: below 1 rather the likely ones")
    predict.add_argument(
        "--top-p", type=float, metavar="P", help="draw among the likeliest words with this probability"
    )
    predict.add_argument("--seed", type=int, metavar="N", help="what is drawn is the same for the same number")
    predict.add_argument(
        "--chat",
        action=argparse.BooleanOptionalAction,
        help="hold a conversation; --no-chat continues a text also where the model has a template of conversations",
    )
    predict.set_defaults(run=_predict)

    translate = commands.add_parser("translate", help="translate sentences, lines of standard input, or a file")
    _add_prediction(translate)
    translate.set_defaults(run=_predict, task="translation")

    serve = commands.add_parser(
        "serve",
        help="answer over HTTP: OpenAI's /v1 for language models, /predict for all others",
        usage="trefoil serve MODEL [options]",
        epilog="example: trefoil serve runs/my-model --port 8000",
    )
    serve.add_argument("model", metavar="MODEL", help="a run's folder, a published one, a stock one, or a Hub id")
    serve.add_argument("--task", help="as the Hub calls it (default: what it was trained for)")
    serve.add_argument("--name", type=_text, help="as clients call it (default: the folder's)")
    serve.add_argument("--host", default="127.0.0.1", help="default: this machine only")
    serve.add_argument("--port", type=_any_port, default=8000, metavar="N", help="default: 8000; 0: a free one")
    serve.add_argument("--key-file", type=Path, metavar="FILE", help="holds a key to ask for (or TREFOIL_KEY)")
    serve.add_argument(
        "--timeout", type=_seconds, default=60.0, metavar="S", help="seconds that a request may take (60)"
    )
    serve.add_argument(
        "--grace", type=_positive, default=30, metavar="S", help="seconds to finish what runs, on SIGTERM (30)"
    )
    serve.add_argument("--max-body", type=_positive, default=1024, metavar="KB", help="that a request may have (1024)")
    serve.add_argument(
        "--max-waiting", type=_positive, default=256, metavar="N", help="texts that wait or are worked on (256)"
    )
    serve.add_argument(
        "--batch-rows", type=_positive, default=32, metavar="N", help="texts that the model takes at a time (32)"
    )
    serve.add_argument("--batch-tokens", type=_positive, default=2048, metavar="N", help="and tokens of these (2048)")
    serve.set_defaults(run=_serve)

    attend = commands.add_parser("attend", help="show what a model looks at, as a page or a picture")
    attend.add_argument("folder", help="a run's folder, a published one, or a Hub id")
    attend.add_argument("source", type=_text, help="the text")
    attend.add_argument(
        "target",
        type=_text,
        nargs="?",
        help="encoder: the second text of a pair; decoder: what follows the source, appended to the letter (begin it "
        "with a space for a new word); encoder-decoder: what is written (default: what is generated)",
    )
    attend.add_argument("--to", metavar="LANG", help="the language, where the model translates into several")
    attend.add_argument(
        "-o", "--output", type=Path, default="attention.html", metavar="FILE", help="default: attention.html; or a .png"
    )
    _add_quiet(attend)
    attend.set_defaults(run=_attend)

    import_ = commands.add_parser("import", help="turn a stock checkpoint into a Trefoil model")
    import_.add_argument("source", help="a folder or Hub id with BERT, Llama, Marian or another stock checkpoint")
    import_.add_argument("output", help="the folder to write")
    import_.add_argument("--overwrite", action="store_true", help="replace a model folder")
    _add_quiet(import_)
    import_.set_defaults(run=_import)

    export = commands.add_parser(
        "export", help="turn a model into a checkpoint of a stock architecture, or into an inference engine's format"
    )
    export.add_argument("source", help="a run's folder, or one that import, publish or save_pretrained wrote")
    export.add_argument("output", help="the folder to write")
    export.add_argument(
        "--to",
        required=True,
        metavar="ARCHITECTURE|FORMAT",
        help="such as llama, bert or marian; or ctranslate2, gguf, onnx",
    )
    export.add_argument(
        "--quantization", metavar="KIND", help="of the weights in ctranslate2 (int8, float16 …) and gguf (q8_0 …)"
    )
    export.add_argument("--overwrite", action="store_true", help="replace a model folder")
    _add_quiet(export)
    export.set_defaults(run=_export)

    doctor = commands.add_parser("doctor", help="tell what is installed, what would be used, and what to mend")
    doctor.add_argument("--json", action="store_true", help="the same, as JSON")
    doctor.set_defaults(run=_doctor)

    completion = commands.add_parser("completion", help="print what makes a shell complete commands, options and files")
    completion.add_argument("shell", choices=SHELLS, help='for bash: eval "$(trefoil completion bash)"')
    completion.set_defaults(run=_completion)
    return parser


def _add_quiet(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quiet", action="store_true", help="say nothing but what is wrong")


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", metavar="FILE", help="rows with labels or targets, in any format that is trained on")
    parser.add_argument(
        "--task", help="where neither a recipe nor the model's architecture says it: ner, translation …"
    )
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        type=_column,
        metavar="ROLE=NAME",
        help="which column is what, where it is not found: label=mood; once for each",
    )


def _add_prediction(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="a run's folder, a published one, a stock one, or a Hub id")
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="default: the lines of standard input")
    parser.add_argument(
        "-i", "--input", type=Path, metavar="FILE", help="rows of .jsonl, .csv, .tsv, .parquet, .txt …, also with .gz"
    )
    parser.add_argument(
        "--column",
        nargs="+",
        action="extend",
        default=[],
        metavar="[INPUT=]NAME",
        help="the column that holds the texts, or question=NAME context=NAME",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="write .jsonl, .csv, .tsv or .txt there, or go on where the same command was killed",
    )
    parser.add_argument(
        "--format",
        choices=("text", "jsonl", "csv", "tsv"),
        help="default: by the file's ending; text on a terminal, else JSON lines",
    )
    parser.add_argument("--truncate", action="store_true", help="cut texts that are longer than the model reads")
    _add_quiet(parser)
    parser.add_argument(
        "--batch-size",
        type=_positive,
        metavar="N",
        help="texts at a time (default: as many of like length as are fast)",
    )
    parser.add_argument("--max-new-tokens", type=_positive, metavar="N", help="write no more (default: the model's)")
    parser.add_argument("--num-beams", type=_positive, metavar="N", help="default: the model's, and at least --n-best")
    parser.add_argument("--n-best", type=_positive, metavar="N", help="the N best of what is written, a record each")
    parser.add_argument("--to", metavar="LANG", help="the language, where the model translates into several")
    parser.add_argument(
        "--scores",
        action="store_true",
        help="the score by which beam search ranks, too: log-probability / tokens ** length_penalty",
    )
    parser.add_argument(
        "--alignments",
        action="store_true",
        help="pairs of words, source-target, counted from 0 between spaces, by cross-attention, too: 0-0 1-2",
    )


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return int(text)


def _minutes(text: str) -> float:
    return _time(text, "minutes")


def _seconds(text: str) -> float:
    return _time(text, "seconds")


def _time(text: str, unit: str) -> float:
    if not re.fullmatch(r"\d+(\.\d+)?", text) or float(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of {unit}")
    return float(text)


def _any_port(text: str) -> int:
    return 0 if text == "0" else _port(text)


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, an integer from 1 to 65535")
    return int(text)


def _column(text: str) -> tuple[str, str]:
    role, _, name = text.partition("=")
    if not (role.isidentifier() and name):
        raise argparse.ArgumentTypeError(f"{text!r} is not ROLE=NAME, such as label=mood")
    return role, name


def _text(text: str) -> str:
    if any("\udc80" <= character <= "\udcff" for character in text):  # what Python makes of other bytes
        raise argparse.ArgumentTypeError(f"{text!a} is not UTF-8")
    return text


def _size(text: str) -> str:
    if not re.fullmatch(r"\d+(\.\d+)?[KMGT]B", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 500MB or 5GB")
    return text


def _new(arguments: argparse.Namespace) -> int:
    from .new import new_recipe

    for line in new_recipe(arguments.task, arguments.data, arguments.minutes, arguments.output, arguments.overrides):
        print(line)
    print(f"{arguments.output} is written; look at it, then:")
    for command in ("debug", "train"):
        print(f"  trefoil {command} {shlex.quote(str(arguments.output))}")
    return 0


def _recipes(arguments: argparse.Namespace) -> int:
    from .recipes.reading import packaged_recipes

    recipes = packaged_recipes()
    if arguments.name is None:
        width = max(map(len, recipes))
        for name, file in recipes.items():
            print(f"{name:<{width}}  {what_for(file)}")
        return 0
    name = arguments.name.removesuffix(".yaml")
    if name not in recipes:
        raise UserError(f"trefoil recipes {name}: no such recipe; there are {', '.join(recipes)}")
    print(recipes[name].read_text(encoding="utf-8"), end="")
    return 0


def _recipe(arguments: argparse.Namespace) -> "Recipe":
    """Read before anything is imported that takes seconds, so that who mistyped a key does not wait."""
    from .recipes.schema import load_recipe

    recipe = load_recipe(arguments.recipe, arguments.overrides)
    _silence_libraries(arguments)
    return recipe


def _debug(arguments: argparse.Namespace) -> int:
    recipe = _recipe(arguments)
    from .training.debug import describe

    for line in describe(recipe):
        print(line, flush=True)
    return 0


def _train(arguments: argparse.Namespace) -> int:
    if arguments.dry_run and arguments.json:
        raise UserError("trefoil train: --dry-run keeps no results for --json to print; give one of them")
    recipe = _recipe(arguments)
    from .data.progress import say
    from .records import as_json
    from .training.debug import dry_run
    from .training.run import train
    from .training.stopping import interrupting

    if (line := unused_devices(arguments.recipe)) is not None:
        say(line)
    if _rank() == 0 and (restarts := int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))):
        say(f"started again (restart {restarts} of {os.environ['TORCHELASTIC_MAX_RESTARTS']})")
    # asked to stop before the first step or after the last, it ends alike; a launcher's processes end at once
    with nullcontext() if by_torch() else interrupting():
        if arguments.dry_run:
            dry_run(recipe)
            return 0
        results = train(recipe)
    if _rank() == 0 and arguments.json:
        print(as_json(results, indent=2))
    elif _rank() == 0:
        for line in summary(results, Path(recipe.output_dir)):
            say(line)
    return 0


def _launch(arguments: argparse.Namespace) -> int:
    output = arguments.output
    if arguments.name is None:
        if output is not None:
            raise UserError("trefoil launch: give the name of the file to write, one that trefoil launch lists")
        for name, file in ready_files().items():
            print(f"{name:<12}{what_for(file)}")
        return 0
    content = ready_file(arguments.name)
    if output is None:
        print(content, end="")
        return 0
    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(content)
    except FileExistsError:
        raise UserError(f"{output}: exists already; name another file") from None
    except OSError as error:
        raise UserError(f"{output}: cannot be written ({error.strerror or error})") from None
    return 0


def _evaluate(arguments: argparse.Namespace) -> int:
    from .predict import model_folder
    from .records import as_json
    from .report import lines_of, report_of, require_own, score_lines, write_report
    from .training.adapters import whole_model
    from .training.measured import require_own_file, write_predictions
    from .training.scoring import evaluate_minimal_pairs

    folder, predictions, output = model_folder(arguments.folder), arguments.predictions, arguments.output
    ways = {
        "--split": arguments.split,
        "--data FILE": arguments.data,
        "--minimal-pairs FILE": arguments.minimal_pairs,
        "--harness TASK": arguments.harness,
    }
    if sum(way is not None for way in ways.values()) > 1:
        raise UserError(f"trefoil evaluate: give one of {', '.join(ways)}")
    require_own_file(predictions)
    if output is not None:
        output = Path(os.path.abspath(output))
        require_own(output)
    measured = None
    if arguments.minimal_pairs is not None:
        with whole_model(folder) as place:
            report = evaluate_minimal_pairs(place, arguments.minimal_pairs, _overrides(arguments), predictions)
        told = report
        lines = score_lines(report)
    elif arguments.harness is not None:
        from .training.harness import run_harness

        if predictions is not None:
            raise UserError("trefoil evaluate: --predictions is not for --harness; -o FOLDER keeps its answers")
        with whole_model(folder) as place:
            report = run_harness(place, arguments.harness.split(","), _overrides(arguments), output is not None)
        told = report["results"]
        lines = score_lines(told)
    else:
        measured = _measure(folder, arguments)
        if predictions is not None:
            write_predictions(Path(predictions), measured)
        told = report = report_of(measured, arguments.folder)
        lines = lines_of(report)
    if _rank() == 0:
        if output is not None:
            write_report(output, report, measured)
        print(as_json(told, indent=2) if arguments.json else "\n".join(lines))
    return 0


def _measure(folder: Path | str, arguments: argparse.Namespace) -> "Measured":
    from .evaluation import recipe_of_file
    from .training.run import measure, recipe_of

    if arguments.data is None:
        return measure(folder, recipe_of(folder, _overrides(arguments), arguments.trust_recipe), arguments.split)
    recipe, notes = recipe_of_file(folder, arguments.data, _overrides(arguments))
    for note in notes if _rank() == 0 else []:
        print(note, file=sys.stderr)
    return measure(folder, recipe, "test")


def _compare(arguments: argparse.Namespace) -> int:
    from .compare import compare, lines_of
    from .records import as_json

    found = compare((arguments.one, arguments.other), arguments.data, _overrides(arguments))
    print(as_json(found, indent=2) if arguments.json else "\n".join(lines_of(found)))
    return 0


def _overrides(arguments: argparse.Namespace) -> list[str]:
    """What options say of a recipe, as if it were said in a recipe's words."""
    task = [] if arguments.task is None else [f"task={arguments.task}"]
    columns = [f"data.columns.{role}={json.dumps(name, ensure_ascii=False)}" for role, name in arguments.column]
    return [*arguments.overrides, *task, *columns]


def _publish(arguments: argparse.Namespace) -> int:
    from .data.progress import say
    from .hub.card import CardFields
    from .hub.check import check_published, print_checks
    from .hub.publish import publish
    from .training.stopping import interrupting

    if arguments.check is not None:
        if arguments.source is not None:
            raise UserError("trefoil publish: give either SOURCE and OUTPUT, or --check FOLDER")
        return print_checks(check_published(arguments.check, arguments.trust_remote_code), arguments.quiet)
    if arguments.trust_remote_code:
        raise UserError("trefoil publish: --trust-remote-code goes with --check FOLDER; publishing runs no code")
    if arguments.source is None or arguments.output is None:
        raise UserError("trefoil publish: give SOURCE and OUTPUT, or --check FOLDER")
    with interrupting():  # so that nothing is left half written
        publish(
            arguments.source,
            arguments.output,
            dtype=arguments.dtype,
            max_shard_size=arguments.max_shard_size,
            overwrite=arguments.overwrite,
            push_to_hub=arguments.push_to_hub,
            private=arguments.private,
            space=arguments.space,
            merge=arguments.merge,
            card=CardFields(
                title=arguments.title,
                license=arguments.license,
                base_model=arguments.base_model,
                example=arguments.example,
                question=arguments.question,
            ),
        )
    say(f"published {arguments.source} in {arguments.output}")
    return 0


def _demo(arguments: argparse.Namespace) -> int:
    from .visualization.app import open_page

    if arguments.model is None:
        from .studio import make_studio

        page = make_studio(arguments.folder)
    else:
        page = _page_of(arguments.model)
    try:
        open_page(page, arguments.host, arguments.port)
    except OSError as error:
        port = "" if arguments.port is None else f", port {arguments.port}"
        raise UserError(f"cannot serve at {arguments.host}{port}: {error.strerror or error}") from None
    return 0


def _page_of(name: str) -> Any:
    from .studio import for_page
    from .visualization.app import make_page

    with for_page(name) as found:
        try:
            return make_page(*found)
        except ValueError as error:
            raise UserError(str(error)) from None


def _serve(arguments: argparse.Namespace) -> int:
    from .predict import load
    from .serving.limits import Limits
    from .serving.server import read_key, serve

    key = read_key(arguments.key_file)
    limits = Limits(
        body=1024 * arguments.max_body,
        seconds=arguments.timeout,
        places=arguments.max_waiting,
        rows=arguments.batch_rows,
        tokens=arguments.batch_tokens,
    )
    name = arguments.name or Path(arguments.model).resolve().name
    serve(load(arguments.model, arguments.task), name, arguments.host, arguments.port, limits, key, arguments.grace)
    return 0


# options by which a model is asked, and of which its messages speak
ASKED = (
    "batch_size", "max_new_tokens", "num_beams", "n_best", "scores", "alignments", "top_k", "temperature", "top_p",
)  # fmt: skip


def _predict(arguments: argparse.Namespace) -> int:
    from transformers import set_seed

    from .predict import load
    from .records import KINDS, Records, batches, rows_of_file, rows_of_texts, write_records
    from .visualization.asking import TASKS

    given = vars(arguments)
    output, texts, chat = arguments.output, arguments.texts, given.get("chat")
    is_talk = chat is True and not (texts or arguments.input)
    if texts and arguments.input is not None:
        raise UserError(f"trefoil {arguments.command}: give either texts or --input FILE")
    if (empty := next((text for text in texts if not text.strip()), None)) is not None:
        raise UserError(f"the text {empty!r} is empty")
    kind = arguments.format
    if output is not None and kind is None and (kind := KINDS.get(output.suffix)) is None:
        raise UserError(f"{output}: the file's name must end with {', '.join(KINDS)}, or say its --format")

    predictor = load(arguments.model, given.get("task"))
    task = predictor.task
    options = {name: value for name in ASKED if (value := given.get(name)) is not None and value is not False}
    options |= {name: value for name, value in (("tgt_lang", arguments.to), ("chat", chat)) if value is not None}
    try:
        predictor.require_options(
            {name: value for name, value in options.items() if name not in ("batch_size", "alignments")},
            arguments.alignments,
        )
        if (seed := given.get("seed")) is not None:
            set_seed(seed)  # of a conversation
        if is_talk:
            return _talk(predictor, options)
        if arguments.truncate:
            options["truncate"] = True
        fixed = {name: given[name] for name in ("question", "context") if given.get(name) is not None}
        if unknown := next((name for name in fixed if name not in TASKS[task].inputs), None):
            raise UserError(f"--{unknown}: a model for {task} is not asked with it")
        if arguments.input is not None:
            rows = rows_of_file(task, arguments.input, _columns(task, arguments.column), fixed)
        elif arguments.column:
            raise UserError("--column: says which column of --input FILE holds the texts; there is no such file")
        else:
            rows = rows_of_texts(task, texts or _standard_input(), fixed)
        fields = TASKS[task].fields(predictor.pipe, "top_k" in options)
        fields += tuple(name.removesuffix("s") for name in ("scores", "alignments") if given[name])

        def answers(batch: list, **more: Any) -> list:
            if seed is not None:  # so that rows draw the same wherever a command goes on
                set_seed((seed + batch[0].number) % 2**32)
            return predictor.answers([row.asked for row in batch], [row.place for row in batch], **options, **more)

        if output is not None:
            told = {"model": str(Path(predictor.name).resolve()), "task": task, "format": kind, **options, **fixed}
            told |= {"input": str(arguments.input), "columns": arguments.column, "seed": given.get("seed")}
            if seed is None:
                told.pop("batch_size", None)  # changes how fast it is
            records = Records(str(kind), task, rows.columns, fields)
            write_records(output, rows, records, answers, told)
            return 0
        if kind is None:
            # `translate` has written plain text ever since
            details = {"n_best", "scores", "alignments"} & options.keys()
            is_plain = not details if arguments.command == "translate" else sys.stdout.isatty()
            kind = "text" if is_plain else "jsonl"
        records = Records(kind, task, rows.columns, fields)
        is_seen = task == "text-generation" and kind == "text" and sys.stdout.isatty()
        at_once = not (texts or arguments.input) and sys.stdin.isatty()  # who types a line waits for its answer
        print(records.start(), end="")
        for batch in batches(rows.after(0), 1 if is_seen or at_once else LINES_AT_A_TIME):
            if is_seen:
                answers(batch, streamer=_streamer(predictor.tokenizer))
                continue
            for row, found in zip(batch, answers(batch), strict=True):
                print(records.of(row, found), end="", flush=True)
    except UserError as error:
        raise UserError(_as_options(str(error))) from None
    return 0


def _as_options(message: str) -> str:
    """A message that names options as in Python, as they are called here."""
    message = message.replace("let truncate cut it", "cut it with --truncate").replace("tgt_lang=", "--to ")
    message = message.replace("tgt_lang", "--to")
    return re.sub(rf"^({'|'.join((*ASKED, 'chat'))})\b", lambda match: f"--{match[1].replace('_', '-')}", message)


def _columns(task: str, names: list[str]) -> dict[str, str]:
    """Input of the task -> its column."""
    from .visualization.asking import TASKS

    known = (*TASKS[task].inputs, *TASKS[task].optional)
    columns = {}
    for name in names:
        role, _, column = name.rpartition("=")
        role = role or known[0]
        if role not in known:
            raise UserError(f"--column {name}: {task} reads no {role!r}; it reads {', '.join(known)}")
        columns[role] = column
    return columns


def _standard_input() -> Any:
    if hasattr(sys.stdin, "reconfigure"):  # or what is not UTF-8 is an error without a line
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")
    return sys.stdin


def _streamer(tokenizer: Any) -> Any:
    from transformers import TextStreamer

    return TextStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)


def _talk(predictor: Any, options: dict[str, Any]) -> int:
    """A conversation, until the input ends."""
    if predictor.task != "text-generation" or predictor.tokenizer.chat_template is None:
        raise UserError(f"{predictor.name}: --chat: its tokenizer has no template of conversations")
    if importlib.util.find_spec("readline") is not None:
        import readline  # noqa: F401  # arrows move in the line
    messages: list[dict[str, str]] = []
    _standard_input()
    while True:
        try:
            said = input("> ")
        except EOFError:
            print()
            return 0
        if any("\udc80" <= character <= "\udcff" for character in said):
            raise UserError("the conversation: is not UTF-8; convert the text to UTF-8")
        if said.strip():
            messages.append({"role": "user", "content": said})
            ((answer,),) = predictor.answers(
                [messages], ["the conversation"], streamer=_streamer(predictor.tokenizer), **options
            )
            messages.append({"role": "assistant", "content": answer["generated_text"]})


def _attend(arguments: argparse.Namespace) -> int:
    from .data.progress import say
    from .pipelines.translation import with_language
    from .predict import model_folder
    from .training.adapters import whole_model
    from .visualization.asking import LOADING_ERRORS
    from .visualization.attention import attention_maps, load_for_attention
    from .visualization.page import MOST_WEIGHTS, attention_page
    from .visualization.picture import attention_picture

    output = arguments.output
    _require_picture(output)
    folder = model_folder(arguments.folder)
    most_weights = MOST_WEIGHTS if output.suffix == ".html" else None
    try:
        with whole_model(folder) as place:
            model, tokenizer = load_for_attention(str(place))
        source = arguments.source
        if arguments.to is not None:
            source = with_language(tokenizer, source, tgt_lang=arguments.to)
        maps = attention_maps(model, tokenizer, source, arguments.target, most_weights)
    except LOADING_ERRORS as error:
        raise UserError(f"{folder}: {reason(error)}") from None
    try:
        if output.suffix == ".png":
            attention_picture(maps, output)
        else:
            title = f"Attention of {Path(arguments.folder).resolve().name}"
            output.write_text(attention_page(maps, title), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{output}: cannot be written ({error.strerror or error})") from None
    if model.config.is_encoder_decoder and arguments.target is None:
        print(maps.target)
    say(f"{', '.join(one.kind for one in maps)}: {output}")
    return 0


def _require_picture(output: Path) -> None:
    from .data.whole_files import require_writable

    if output.suffix not in (".html", ".png"):
        raise UserError(f"{output}: the file's name must end with .html or .png")
    require_writable(output)


def _import(arguments: argparse.Namespace) -> int:
    from .hub.stock import import_stock

    converted = import_stock(arguments.source, arguments.output, overwrite=arguments.overwrite)
    return _tell("imported", arguments, converted)


def _export(arguments: argparse.Namespace) -> int:
    from .hub.engines import ENGINES, export_for_engine
    from .hub.stock import export_stock

    source, output, to, quantization = arguments.source, arguments.output, arguments.to, arguments.quantization
    if to in ENGINES:
        converted = export_for_engine(source, output, to, quantization=quantization, overwrite=arguments.overwrite)
    elif quantization is not None:
        raise UserError(
            f"--quantization goes with --to {' and '.join(to for to, engine in ENGINES.items() if engine.quantizations)}; "
            "a checkpoint's weights stay as they are"
        )
    else:
        converted = export_stock(source, output, to, overwrite=arguments.overwrite)
    return _tell("exported", arguments, converted)


def _tell(done: str, arguments: argparse.Namespace, converted: "Converted") -> int:
    from .data.progress import say

    for note in converted.notes:
        say(f"note: {note}")
    say(
        f"{done} {arguments.source} as {type(converted.model).__name__} in {arguments.output}; on random tokens the "
        f"outputs of both differ by {converted.difference:.1e} at most"
    )
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    from .doctor import examine, lines_of

    found = examine()
    print(json.dumps(found, indent=2, ensure_ascii=False) if arguments.json else "\n".join(lines_of(found)))
    return 0


def _completion(arguments: argparse.Namespace) -> int:
    import shtab

    parser = make_parser()
    for command in _commands(parser).values():
        for action in command._actions:
            if FILES.intersection({action.metavar, action.dest}):
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(parser, arguments.shell))
    return 0


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    return next(action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction))


# commands that need no model, or are to read a recipe first
LIGHT = (_recipes, _debug, _train, _launch, _doctor, _completion)


def _silence_libraries(arguments: argparse.Namespace) -> None:
    """The bars of libraries are noise: all in a log, where our own work shows plain lines, and on a terminal those of
    weights that are read and written."""
    from huggingface_hub.utils import enable_progress_bars
    from transformers.utils import logging

    logging.disable_progress_bar()
    if sys.stderr.isatty() and not _is_quiet(arguments):
        enable_progress_bars()  # of downloads, which the line above takes along
    elif importlib.util.find_spec("datasets") is not None:
        import datasets

        datasets.disable_progress_bars()


def _is_quiet(arguments: argparse.Namespace) -> bool:
    return vars(arguments).get("quiet", False)


def _quiet(arguments: argparse.Namespace) -> AbstractContextManager:
    if not _is_quiet(arguments):
        return nullcontext()
    from .data.progress import silence

    return silence()


def _rank() -> int:
    return int(os.environ.get("RANK", 0))


def _mistake(message: str) -> int:
    # all processes of a launch make the same mistake; one says so
    if _rank() == 0:
        print(f"error: {message}", file=sys.stderr)
    tell_launcher(message)
    return MISTAKE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; exit codes: 0 done, 1 a check failed, 2 a user's mistake, 130 (or --stopped-code) interrupted."""
    parser = make_parser()
    parsed, rest = parser.parse_known_args(arguments)
    many = next((getattr(parsed, name) for name in ("texts", "overrides") if name in parsed), None)
    if many is not None and not any(word.startswith("-") for word in rest):
        many += rest  # argparse takes none that stand behind an option
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if parsed.command is None:
        parser.print_help()
        return 0
    code = _run(parsed, sys.argv[1:] if arguments is None else arguments)
    if code != LOST:  # then nobody is there to take leave of
        _leave_processes()
    return code


def _leave_processes() -> None:
    """End the group of a launch's processes, if this is one, before the interpreter ends: gloo's threads might find nothing
    to return to, and abort."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        gc.collect()  # DDP holds the group, too
        distributed.destroy_process_group()


def _run(parsed: argparse.Namespace, arguments: Sequence[str]) -> int:
    try:
        if parsed.run not in LIGHT:
            _silence_libraries(parsed)
        load_extensions()
        if parsed.run in (_train, _evaluate):
            code = start_missing_processes(arguments)
            if code is not None:
                return code
        with _quiet(parsed):
            return parsed.run(parsed)
    except UserError as error:
        return _mistake(str(error))
    except ModuleNotFoundError as error:
        extras = {_completion: "completion", _demo: "demo", _serve: "serve"}
        extra = "harness" if error.name == "lm_eval" else extras.get(parsed.run, "train")
        return _mistake(what_to_install(f"trefoil {parsed.command}", error, extra))
    except KeyboardInterrupt:
        if _rank() == 0:
            goes_on = {
                _train: f"; {GOES_ON}",
                _predict: "; the same command goes on" if vars(parsed).get("output") else "",
            }
            print("stopped" + goes_on.get(parsed.run, ""), file=sys.stderr)
        return getattr(parsed, "stopped_code", STOPPED)
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except OSError as error:
        if error.errno not in OF_PLACES or error.filename is None:
            raise
        return _mistake(f"{error.filename}: {error.strerror}")
    except RuntimeError as error:
        if not lost_contact(error):
            raise
        tell_launcher(LOST_CONTACT)
        return LOST
