"""clearhead lab: questions about Transformers, answered by measurement."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from clearhead.cli.options import AsJson, print_json

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Questions about Transformers, answered by measurement."
)

CACHE = Path("runs/lab")
Cache = Annotated[Path, typer.Option(help="Folder in which measurements are kept and looked for.", metavar="DIR")]
Language = Annotated[Literal["en", "zh"], typer.Option("--lang", help="Language of the texts.")]
ScaleName = Annotated[
    Literal["quick", "full"], typer.Option("--scale", help="quick: seconds; full: what verdicts need.")
]
Jobs = Annotated[int, typer.Option(min=1, help="Worker processes of one thread each.")]
SeedList = Annotated[int, typer.Option(min=0, help="Another list gives other seeds.")]
Lists = Annotated[int, typer.Option(min=1, help="Seed lists to compare, from that of --seed-list on.")]


@app.command("list")
def list_(
    topic: Annotated[str | None, typer.Option(help="Only this topic.")] = None,
    lang: Language = "en",
    json: AsJson = False,
) -> None:
    """List the questions.

    Example: clearhead lab list --topic masks
    """
    from clearhead.lab import chosen, question

    listed = [(each, question(each)) for each in chosen(topic or "all")]
    for name, each in listed:
        print(f"{each.topic:14} {name:32} {getattr(each.title, lang)}")
    if json:
        about = [{"id": name, "topic": each.topic, "title": vars(each.title)} for name, each in listed]
        print_json({"questions": about})


@app.command()
def show(
    id: Annotated[str, typer.Argument(help="A question's id.", metavar="ID")],
    lang: Language = "en",
    json: AsJson = False,
) -> None:
    """Show what a question asks, what is claimed, what was predicted, and what would decide.

    Example: clearhead lab show scale-by-sqrt-dk --lang zh
    """
    from clearhead.lab.telling import asked, described

    print(asked(id, lang))
    if json:
        print_json(described(id))


@app.command()
def run(
    name: Annotated[str, typer.Argument(help="A question's id, a topic, or all.", metavar="ID|TOPIC|all")],
    scale: ScaleName = "full",
    jobs: Jobs = 2,
    seed_list: SeedList = 0,
    lists: Lists = 1,
    cache: Cache = CACHE,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure anew what is in the cache.")] = False,
    lang: Language = "en",
    json: AsJson = False,
) -> None:
    """Measure and judge; exit status 0 when every question ran, whatever the verdicts.

    What was measured before with the same code is taken from the cache, so a run that was stopped goes on. With
    --lists 3 each verdict is found three times, with other seeds; the first is shown, and how many agree.

    Example: clearhead lab run layernorm-axis --scale quick
    """
    from clearhead.lab import Scale, Store, chosen
    from clearhead.lab import run as run_questions
    from clearhead.lab.stability import summary
    from clearhead.lab.telling import found, keep_picture, say

    store = Store(cache, reads=not fresh)
    results = run_questions(chosen(name), Scale(scale, seed_list), jobs=jobs, store=store, lists=lists)
    documents = [each.document(str(keep_picture(each, cache))) for each in results]
    print("\n\n".join(found(each, lang) for each in results))
    if len(results) > 1 and (stable := summary(results)) is not None:
        print(f"\n{say(stable, lang)}")
    if json:
        print_json(documents[0] if len(documents) == 1 else {"results": documents})


@app.command()
def report(
    out: Annotated[Path, typer.Argument(help="Folder of the report.", metavar="OUT")],
    scale: ScaleName = "full",
    jobs: Jobs = 2,
    seed_list: SeedList = 0,
    lists: Lists = 1,
    cache: Cache = CACHE,
    markdown: Annotated[
        Path | None, typer.Option(help="Also write Markdown pages into this folder.", metavar="DIR")
    ] = None,
) -> None:
    """Write an offline site of all questions; what is not in the cache is measured first.

    With --lists 3 each page tells how many of three seed lists give its verdicts, and the index how many are the same.

    Example: clearhead lab report runs/lab-report --scale quick
    """
    from clearhead.lab import Scale, Store, chosen
    from clearhead.lab import run as run_questions
    from clearhead.lab.report import write_markdown, write_site

    results = run_questions(chosen("all"), Scale(scale, seed_list), jobs=jobs, store=Store(cache), lists=lists)
    print(write_site(out, results))
    if markdown:
        print(write_markdown(markdown, results))
