"""The command line: `trefoil train | launch | evaluate | harness | publish | demo | translate | attend | import | export`."""

import argparse
import gc
import importlib.util
import json
import os
import re
import signal
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from .configuration.errors import UserError, reason
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

if TYPE_CHECKING:
    from .hub.stock import Converted

LINES_AT_A_TIME = 16  # that are translated before they are shown
OVERRIDES = "change a key of the recipe: key.sub=value, for example training.max_steps=1000"


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="trefoil", description="Train, measure, publish and use transformers.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train a model as a recipe says, or go on where it was left")
    train.add_argument("recipe", help="a YAML file, or the name of a recipe that comes with the package")
    train.add_argument("overrides", nargs="*", metavar="key=value", help=OVERRIDES)
    add_stopped_code(train)
    train.set_defaults(run=_train)

    launch = commands.add_parser("launch", help="list, print or write files to train on several devices or machines by")
    launch.add_argument("name", nargs="?", help="default: list them")
    launch.add_argument("-o", "--output", type=Path, metavar="FILE", help="write it there")
    launch.set_defaults(run=_launch)

    evaluate = commands.add_parser("evaluate", help="measure a trained or published model")
    evaluate.add_argument("folder", help="a run's folder, or a published one; with --minimal-pairs also a stock one")
    evaluate.add_argument("overrides", nargs="*", metavar="key=value", help=OVERRIDES)
    evaluate.add_argument("--split", help="default: the recipe's test split")
    evaluate.add_argument("--predictions", metavar="FILE", help="also write what the model said, as JSON lines")
    evaluate.add_argument(
        "--minimal-pairs",
        type=Path,
        metavar="FILE",
        help="measure a language model on pairs of sentences instead, columns good, bad (perhaps phenomenon, paradigm)",
    )
    evaluate.set_defaults(run=_evaluate)

    harness = commands.add_parser("harness", help="measure a language model by lm-evaluation-harness")
    harness.add_argument("folder", help="a run's folder, a published or stock one, or a Hub id")
    harness.add_argument("overrides", nargs="*", metavar="key=value", help=OVERRIDES)
    harness.add_argument(
        "--tasks", nargs="+", required=True, metavar="NAME|FILE", help="its tasks, or YAML files of your own"
    )
    harness.add_argument("-o", "--output", metavar="FILE", help="also write all that it tells, as JSON")
    harness.set_defaults(run=_harness)

    publish = commands.add_parser("publish", help="write a folder that transformers alone can load")
    publish.add_argument("source", nargs="?", help="a run's folder, or one that save_pretrained wrote")
    publish.add_argument("output", nargs="?", help="the folder to write")
    publish.add_argument("--check", metavar="FOLDER", help="check a published folder instead, in a clean process")
    publish.add_argument("--trust-remote-code", action="store_true", help="with --check: let any code in FOLDER run")
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
    publish.add_argument("--space", action="store_true", help="add a page to try it on, so that it runs as a Hub Space")
    publish.set_defaults(run=_publish)

    demo = commands.add_parser("demo", help="open a page in the browser to try a model on")
    demo.add_argument("model", help="a run's folder, a published one, or a Hub id")
    demo.add_argument("--host", default="127.0.0.1", help="the address to serve at (default: this machine only)")
    demo.add_argument("--port", type=_port, metavar="N", help="default: the first free one from 7860")
    demo.set_defaults(run=_demo)

    translate = commands.add_parser("translate", help="translate sentences, or lines of standard input")
    translate.add_argument("folder", help="a run's folder, a published one, or a Hub id")
    translate.add_argument("sentences", nargs="*", help="default: the lines of standard input")
    translate.add_argument("--to", metavar="LANG", help="the language, where the model translates into several")
    translate.add_argument(
        "--num-beams", type=_positive, metavar="N", help="default: the model's, and at least --n-best"
    )
    translate.add_argument(
        "--batch-size",
        type=_positive,
        metavar="N",
        help=f"default: {LINES_AT_A_TIME}; with -o, as many of like length as are fast",
    )
    translate.add_argument("--n-best", type=_positive, metavar="N", help="the N best translations, as JSON lines")
    translate.add_argument(
        "--scores",
        action="store_true",
        help="JSON lines with the score by which beam search ranks: log-probability / tokens ** length_penalty",
    )
    translate.add_argument(
        "--alignments",
        action="store_true",
        help="JSON lines with pairs of words, source-target, counted from 0 between spaces, by cross-attention: 0-0 1-2",
    )
    translate.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="write JSON lines there, or go on where the same command was killed",
    )
    translate.set_defaults(run=_translate)

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
    attend.set_defaults(run=_attend)

    import_ = commands.add_parser("import", help="turn a stock checkpoint into a Trefoil model")
    import_.add_argument("source", help="a folder or Hub id with BERT, Llama, Marian or another stock checkpoint")
    import_.add_argument("output", help="the folder to write")
    import_.add_argument("--overwrite", action="store_true", help="replace a model folder")
    import_.set_defaults(run=_import)

    export = commands.add_parser("export", help="turn a model into a checkpoint of a stock architecture")
    export.add_argument("source", help="a run's folder, or one that import, publish or save_pretrained wrote")
    export.add_argument("output", help="the folder to write")
    export.add_argument("--to", required=True, metavar="ARCHITECTURE", help="such as llama, bert or marian")
    export.add_argument("--overwrite", action="store_true", help="replace a model folder")
    export.set_defaults(run=_export)
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, an integer from 1 to 65535")
    return int(text)


def _text(text: str) -> str:
    if any("\udc80" <= character <= "\udcff" for character in text):  # what Python makes of other bytes
        raise argparse.ArgumentTypeError(f"{text!a} is not UTF-8")
    return text


def _size(text: str) -> str:
    if not re.fullmatch(r"\d+(\.\d+)?[KMGT]B", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 500MB or 5GB")
    return text


def _train(arguments: argparse.Namespace) -> int:
    from .recipes.schema import load_recipe
    from .training.run import train
    from .training.stopping import heard

    recipe = load_recipe(arguments.recipe, arguments.overrides)
    if (line := unused_devices(arguments.recipe)) is not None:
        print(line, file=sys.stderr)
    if _rank() == 0 and (restarts := int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))):
        print(f"started again (restart {restarts} of {os.environ['TORCHELASTIC_MAX_RESTARTS']})", file=sys.stderr)
    # asked to stop before the first step or after the last, it ends alike; a launcher's processes end at once
    with nullcontext() if by_torch() else heard(signal.default_int_handler):
        train(recipe)
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
    from .training.run import evaluate
    from .training.scoring import evaluate_minimal_pairs

    folder, pairs = model_folder(arguments.folder), arguments.minimal_pairs
    if pairs is None:
        scores = evaluate(folder, arguments.overrides, arguments.split, arguments.predictions)
    elif arguments.split is None:
        scores = evaluate_minimal_pairs(folder, pairs, arguments.overrides, arguments.predictions)
    else:
        raise UserError("trefoil evaluate: give either --split or --minimal-pairs FILE")
    return _print_scores(scores)


def _harness(arguments: argparse.Namespace) -> int:
    from .training.harness import run_harness

    return _print_scores(
        run_harness(model_folder(arguments.folder), arguments.tasks, arguments.overrides, arguments.output)
    )


def _print_scores(scores: dict | None) -> int:
    if _rank() == 0:
        print(json.dumps(scores, indent=2, ensure_ascii=False))
    return 0


def _publish(arguments: argparse.Namespace) -> int:
    from .hub.card import CardFields
    from .hub.check import check_published, print_checks
    from .hub.publish import publish

    if arguments.check is not None:
        if arguments.source is not None:
            raise UserError("trefoil publish: give either SOURCE and OUTPUT, or --check FOLDER")
        return print_checks(check_published(arguments.check, arguments.trust_remote_code))
    if arguments.trust_remote_code:
        raise UserError("trefoil publish: --trust-remote-code goes with --check FOLDER; publishing runs no code")
    if arguments.source is None or arguments.output is None:
        raise UserError("trefoil publish: give SOURCE and OUTPUT, or --check FOLDER")
    folder = publish(
        arguments.source,
        arguments.output,
        dtype=arguments.dtype,
        max_shard_size=arguments.max_shard_size,
        overwrite=arguments.overwrite,
        push_to_hub=arguments.push_to_hub,
        private=arguments.private,
        space=arguments.space,
        card=CardFields(title=arguments.title, license=arguments.license),
    )
    print(f"published {arguments.source} in {folder}", file=sys.stderr)
    return 0


def _demo(arguments: argparse.Namespace) -> int:
    from .hub.space import metadata_of_run
    from .training.run_folder import ModelFolder
    from .visualization.app import make_page, open_page

    model = model_folder(arguments.model)

    metadata = None
    if isinstance(model, Path) and ModelFolder(model).recipe.is_file() and not (model / "README.md").is_file():
        metadata = metadata_of_run(model, title=Path(arguments.model).resolve().name)
    try:
        page = make_page(model, metadata)
    except ValueError as error:
        raise UserError(str(error)) from None
    try:
        open_page(page, arguments.host, arguments.port)
    except OSError as error:
        port = "" if arguments.port is None else f", port {arguments.port}"
        raise UserError(f"cannot serve at {arguments.host}{port}: {error.strerror or error}") from None
    return 0


def _translate(arguments: argparse.Namespace) -> int:
    from transformers import pipeline

    from .translate import Translations, batches, numbered, write_lines

    folder = model_folder(arguments.folder)
    try:
        translator = pipeline(
            "translation", model=str(folder), model_kwargs={"use_safetensors": True}, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: {reason(error)}") from None
    if translator.model.main_input_name != "input_ids":
        raise UserError(
            f"{folder}: a {translator.model.config.model_type} does not read text, so it does not translate"
        )
    options = {"num_beams": arguments.num_beams, "batch_size": arguments.batch_size, "tgt_lang": arguments.to}
    translate = Translations(
        translator,
        {name: value for name, value in options.items() if value is not None},
        n_best=arguments.n_best or 1,
        scores=arguments.scores,
        alignments=arguments.alignments,
    )
    if hasattr(sys.stdin, "reconfigure"):  # or what is not UTF-8 is an error without a line
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")
    lines = numbered(arguments.sentences or sys.stdin)
    if arguments.output is not None:
        write_lines(arguments.output, lines, translate)
        return 0
    translate.options.setdefault("batch_size", LINES_AT_A_TIME)
    as_text = arguments.n_best is None and not arguments.scores and not arguments.alignments
    for batch in batches(lines, translate.options["batch_size"]):
        for record in translate(batch):
            print(record["translation"] if as_text else json.dumps(record, ensure_ascii=False), flush=True)
    return 0


def _attend(arguments: argparse.Namespace) -> int:
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    from .pipelines.translation import with_language
    from .visualization.attention import attention_maps, load_for_attention
    from .visualization.page import MOST_WEIGHTS, attention_page
    from .visualization.picture import attention_picture

    output = arguments.output
    _require_writable(output)
    folder = model_folder(arguments.folder)
    most_weights = MOST_WEIGHTS if output.suffix == ".html" else None
    try:
        model, tokenizer = load_for_attention(str(folder))
        source = arguments.source
        if arguments.to is not None:
            source = with_language(tokenizer, source, tgt_lang=arguments.to)
        maps = attention_maps(model, tokenizer, source, arguments.target, most_weights)
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError, StrictDataclassError) as error:
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
    print(f"{', '.join(one.kind for one in maps)}: {output}", file=sys.stderr)
    return 0


def _require_writable(output: Path) -> None:
    if output.suffix not in (".html", ".png"):
        raise UserError(f"{output}: the file's name must end with .html or .png")
    if os.path.isdir(output):
        raise UserError(f"{output}: is a folder; name a file in it")
    if not os.path.isdir(output.parent):
        raise UserError(f"{output}: its folder does not exist")
    if not os.access(output if os.path.exists(output) else output.parent, os.W_OK):
        raise UserError(f"{output}: cannot be written; name a file elsewhere")


def _import(arguments: argparse.Namespace) -> int:
    from .hub.stock import import_stock

    converted = import_stock(arguments.source, arguments.output, overwrite=arguments.overwrite)
    return _tell("imported", arguments, converted)


def _export(arguments: argparse.Namespace) -> int:
    from .hub.stock import export_stock

    converted = export_stock(arguments.source, arguments.output, arguments.to, overwrite=arguments.overwrite)
    return _tell("exported", arguments, converted)


def _tell(done: str, arguments: argparse.Namespace, converted: "Converted") -> int:
    for note in converted.notes:
        print(f"note: {note}", file=sys.stderr)
    print(
        f"{done} {arguments.source} as {type(converted.model).__name__} in {arguments.output}; on random tokens the "
        f"outputs of both differ by {converted.difference:.1e} at most",
        file=sys.stderr,
    )
    return 0


def _silence_progress_bars() -> None:
    """The bars of libraries are noise: all in a log, where our own work shows plain lines, and on a terminal those of
    weights that are read and written."""
    from huggingface_hub.utils import enable_progress_bars
    from transformers.utils import logging

    logging.disable_progress_bar()
    if sys.stderr.isatty():
        enable_progress_bars()  # of downloads, which the line above takes along
    elif importlib.util.find_spec("datasets") is not None:
        import datasets

        datasets.disable_progress_bars()


def model_folder(folder: str) -> Path | str:
    """A run's best model, or the folder or Hub id itself."""
    from .training.run_folder import best_model

    best = Path(best_model(folder))
    if not best.is_dir():
        return folder
    if best == Path(folder) and not (best / "config.json").is_file():
        raise UserError(f"{folder}: no model; give a run's folder that has best/, or a folder with config.json")
    return best


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
    code = _run(make_parser().parse_args(arguments), sys.argv[1:] if arguments is None else arguments)
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
    _silence_progress_bars()
    try:
        load_extensions()
        if parsed.run in (_train, _evaluate, _harness):
            code = start_missing_processes(arguments)
            if code is not None:
                return code
        return parsed.run(parsed)
    except UserError as error:
        return _mistake(str(error))
    except ModuleNotFoundError as error:
        missing = (error.name or "trefoil").partition(".")[0]
        if missing == "trefoil":
            raise
        extra = {_demo: "demo", _harness: "harness"}.get(parsed.run, "train")
        return _mistake(f"trefoil {parsed.command} needs {missing}: pip install 'trefoil-transformers[{extra}]'")
    except KeyboardInterrupt:
        if _rank() == 0:
            print("stopped" + (f"; {GOES_ON}" if parsed.run is _train else ""), file=sys.stderr)
        return getattr(parsed, "stopped_code", STOPPED)
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except RuntimeError as error:
        if not lost_contact(error):
            raise
        tell_launcher(LOST_CONTACT)
        return LOST
