"""The `headwater` command. Each command imports what it needs when it is called, so that help
and refusals come at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer.models import OptionInfo

from headwater.infra.models import MAX_EXPANSION, BadRows, Cloud, Mode

if TYPE_CHECKING:
    from headwater.flows.console import Console
    from headwater.flows.parameters import EtlParameters, ThenParameters

app = typer.Typer(
    name="headwater",
    help="Run data pipelines where the data is: price them, run them, commit one version.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
run_app = typer.Typer(help="Run a flow now.", no_args_is_help=True, rich_markup_mode=None)
data_app = typer.Typer(help="Look after a dataset.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(run_app, name="run")
plan_app = typer.Typer(
    help="Tell what a run would cost and where.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(plan_app, name="plan")
app.add_typer(data_app, name="data")
steps_app = typer.Typer(help="Jobs as lists of steps.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(steps_app, name="steps")
prices_app = typer.Typer(
    help="What machines and moved bytes cost.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(prices_app, name="prices")
profiles_app = typer.Typer(
    help="What a cluster may look like.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(profiles_app, name="profiles")
policies_app = typer.Typer(help="What is allowed.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(policies_app, name="policies")
clusters_app = typer.Typer(
    help="What is alive in the clouds.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(clusters_app, name="clusters")
network_app = typer.Typer(
    help="Networks that clusters are put in.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(network_app, name="network")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the whole trace of an error.")]
Address = Annotated[str, typer.Argument(metavar="URI", help="Address of the dataset.")]
Side = Annotated[
    list[str] | None,
    typer.Option("--side", metavar="NAME=URI", help="Small table that the job joins as NAME."),
]
Drifting = Annotated[
    str,
    typer.Option(
        "--drift",
        metavar="strict|widen|SCHEMA",
        help="Where files differ: refuse, widen, or cast to 'a: Int64, b: Date' or a file of it.",
    ),
]
BadRowsOption = Annotated[
    BadRows, typer.Option("--bad-rows", help="What happens to rows of text that cannot be read.")
]
Encoding = Annotated[
    str, typer.Option("--encoding", metavar="NAME", help="Of text, such as utf-16 or cp1252.")
]
Delimiter = Annotated[
    str,
    typer.Option(
        "--delimiter", metavar="CHARACTER", help="Between fields of CSV. [default: the header's]"
    ),
]
Expansion = Annotated[
    int,
    typer.Option(
        "--max-expansion", metavar="N", min=1, help="How many times its size a file may unpack to."
    ),
]
Profile = Annotated[
    str, typer.Option("--profile", metavar="NAME", help="Cluster profile: where it runs.")
]
Clouds = Annotated[
    list[Cloud] | None,
    typer.Option("--cloud", help="In this cloud; may be repeated. [default: all with credentials]"),
]
Regions = Annotated[
    list[str] | None,
    typer.Option("--region", metavar="NAME", help="Of AWS: in this region; may be repeated."),
]
OfRun = Annotated[str, typer.Option("--run", metavar="NAME", help="Of this run.")]
OfCluster = Annotated[str, typer.Option("--cluster", metavar="NAME", help="Of this cluster.")]
Version = Annotated[
    int | None, typer.Option("--version", min=0, help="This version, not the last.")
]


def _cloud_folder(option: str, variable: str) -> OptionInfo:
    """An option of the demo that names its folder in one store."""
    info: OptionInfo = typer.Option(
        option, metavar="URI", envvar=variable, help="With --clouds: folder in this store."
    )
    return info


def main() -> None:
    """Entry point of the installed command."""
    try:
        app()
    except SystemExit as exc:
        from headwater.flows.console import EXIT_FAILED, EXIT_INTERRUPTED, leave

        if exc.code in (EXIT_FAILED, EXIT_INTERRUPTED):
            leave(exc.code)
        raise


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"headwater {version('headwater')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Run data pipelines where the data is: price them, run them, commit one version."""


@app.command()
def demo(
    context: typer.Context,
    to: Annotated[
        Path, typer.Option("--to", metavar="DIR", help="Folder for its input and its result.")
    ] = Path("headwater-demo"),
    clouds: Annotated[
        bool,
        typer.Option(
            "--clouds", help="Read from S3, Google Cloud Storage and Azure, and write to S3."
        ),
    ] = False,
    s3: Annotated[str | None, _cloud_folder("--s3", "HEADWATER_DEMO_S3")] = None,
    gcs: Annotated[str | None, _cloud_folder("--gcs", "HEADWATER_DEMO_GCS")] = None,
    azure: Annotated[str | None, _cloud_folder("--azure", "HEADWATER_DEMO_AZURE")] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Clean a year of real flights from New York, join the weather, commit one version."""
    from headwater.flows.console import Console
    from headwater.flows.demo import run_demo

    console = Console(json, debug)
    with console.reporting():
        from headwater.infra.storage.uris import Scheme

        if not clouds:
            _require_none_given(context, "s3", "gcs", "azure", beside="--clouds")
        folders = {Scheme.S3: s3, Scheme.GCS: gcs, Scheme.AZURE: azure}
        run_demo(to, console, folders if clouds else None)


def _takes_etl(act: Callable[[EtlParameters, Console], None]) -> Callable[..., None]:
    """A command that takes what describes an `etl` run, and does ``act`` with it."""

    def command(
        source: Annotated[
            list[str],
            typer.Option(
                "--source",
                metavar="URI",
                help="File, folder, glob or table to read; may be repeated.",
            ),
        ],
        target: Annotated[str, typer.Option("--target", metavar="URI", help="Dataset to write.")],
        job: Annotated[
            str | None,
            typer.Option(
                "--job",
                metavar="MODULE:FUNCTION",
                help="polars.LazyFrame -> polars.LazyFrame, one row at a time. [default: copy]",
            ),
        ] = None,
        steps: Annotated[
            Path | None,
            typer.Option("--steps", metavar="FILE", help="TOML file of steps, instead of a job."),
        ] = None,
        side: Side = None,
        partition_by: Annotated[
            list[str] | None,
            typer.Option("--partition-by", metavar="COLUMN", help="May be repeated."),
        ] = None,
        mode: Annotated[
            Mode, typer.Option("--mode", help="What happens to the rows that are there.")
        ] = Mode.OVERWRITE,
        format_: Annotated[
            Literal["delta", "parquet"],
            typer.Option(
                "--format",
                help="A Delta table, or plain Parquet in a new folder, without versions.",
            ),
        ] = "delta",
        drift: Drifting = "widen",
        bad_rows: BadRowsOption = BadRows.REFUSE,
        encoding: Encoding = "utf-8",
        delimiter: Delimiter = "",
        max_expansion: Expansion = MAX_EXPANSION,
        then: Annotated[
            list[str] | None,
            typer.Option(
                "--then",
                metavar="TARGET=FILE|MODULE:FUNCTION",
                help="One more table, made from the new version, in the same run; may be repeated.",
            ),
        ] = None,
        profile: Annotated[
            str, typer.Option("--profile", metavar="NAME", help="Cluster profile: where it runs.")
        ] = "local",
        fresh: Annotated[
            bool, typer.Option("--fresh", help="Do every part anew, also finished ones.")
        ] = False,
        again: Annotated[
            bool, typer.Option("--again", help="Commit once more what was committed before.")
        ] = False,
        json: Json = False,
        debug: Debug = False,
    ) -> None:
        from headwater.flows.console import Console

        console = Console(json, debug)
        with console.reporting():
            from pydantic import ValidationError

            from headwater.flows.parameters import (
                EtlParameters,
                delimiter_of,
                drift_parameters,
                invalid,
            )

            try:
                parameters = EtlParameters(
                    sources=source,
                    target=target,
                    job=job,
                    steps_file=steps,
                    sides=_named(side or []),
                    partition_by=[c for text in partition_by or [] for c in text.split(",") if c],
                    mode=mode,
                    format=format_,
                    **drift_parameters(drift),
                    bad_rows=bad_rows,
                    encoding=encoding,
                    delimiter=delimiter_of(delimiter),
                    max_expansion=max_expansion,
                    profile=profile,
                    fresh=fresh,
                    again=again,
                    then=[_follow_up(text) for text in then or []],
                )
            except ValidationError as exc:
                raise invalid(exc) from exc
            act(parameters, console)

    command.__doc__ = act.__doc__
    return command


@run_app.command("etl")
@_takes_etl
def run_etl(parameters: EtlParameters, console: Console) -> None:
    """Read sources, apply a job to each part, commit the result as one version."""
    from headwater.flows.run_command import print_receipt
    from headwater.flows.run_command import run_etl as run

    print_receipt(run(parameters, console), console)


@plan_app.command("etl")
@_takes_etl
def plan_etl(parameters: EtlParameters, console: Console) -> None:
    """Where a run should go, what it will cost and take, and why not elsewhere; runs nothing."""
    from headwater.flows.plan_command import plan_etl as plan

    plan(parameters, console)


@data_app.command("show")
def data_show(
    uri: Address, version: Version = None, json: Json = False, debug: Debug = False
) -> None:
    """Columns, rows, size and partitions of a dataset."""
    from headwater.flows.console import Console
    from headwater.flows.data_commands import show

    console = Console(json, debug)
    with console.reporting():
        show(uri, version, console)


@data_app.command("versions")
def data_versions(uri: Address, json: Json = False, debug: Debug = False) -> None:
    """Every committed version of a dataset, the newest first."""
    from headwater.flows.console import Console
    from headwater.flows.data_commands import versions

    console = Console(json, debug)
    with console.reporting():
        versions(uri, console)


@data_app.command("read")
def data_read(
    uri: Address,
    version: Version = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=0, help="Rows at most. [default: 20 in a table]")
    ] = None,
    format_: Annotated[
        Literal["table", "csv", "jsonl", "parquet"], typer.Option("--format", help="To stdout.")
    ] = "table",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Print rows of a dataset."""
    from headwater.flows.console import Console
    from headwater.flows.data_commands import read

    console = Console(json, debug)
    with console.reporting():
        read(uri, version, limit, format_, console)


@data_app.command("vacuum")
def data_vacuum(
    uri: Address,
    retention_days: Annotated[
        float | None,
        typer.Option(
            "--retention-days",
            min=0,
            help="Superseded versions stay readable this long. [default: the table's own, else 7]",
        ),
    ] = None,
    grace_days: Annotated[
        float, typer.Option("--grace-days", min=0, help="Unfinished runs are kept this long.")
    ] = 7,
    force: Annotated[
        bool, typer.Option("--force", help="Allow times that readers and runs may not survive.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "--execute", help="Remove it; else it is only told.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Remove files that no needed version holds: of old versions, failed runs and the log."""
    from headwater.flows.console import Console

    console = Console(json, debug)
    with console.reporting():
        from headwater.flows.upkeep_commands import run_vacuum

        run_vacuum(
            uri,
            console,
            retention_days=retention_days,
            grace_days=grace_days,
            force=force,
            execute=yes,
        )


@data_app.command("delete")
def data_delete(
    uri: Address,
    where: Annotated[
        str,
        typer.Option("--where", metavar="EXPR", help="SQL condition over one row, as in filter."),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell how many rows match.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Delete the rows that match, in one new version; say until when old ones hold them."""
    from headwater.flows.console import Console

    console = Console(json, debug)
    with console.reporting():
        from headwater.flows.upkeep_commands import run_delete

        run_delete(uri, where, console, dry_run=dry_run, yes=yes)


@data_app.command("compact")
def data_compact(
    uri: Address,
    target_mib: Annotated[
        int, typer.Option("--target-mib", min=1, help="About the size of the new files.")
    ] = 128,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell what would be brought together.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Bring small files together in fewer, in one new version with the same rows."""
    from headwater.flows.console import Console

    console = Console(json, debug)
    with console.reporting():
        from headwater.flows.upkeep_commands import run_compact

        run_compact(uri, console, target_mib=target_mib, dry_run=dry_run)


@steps_app.command("list")
def steps_list(json: Json = False, debug: Debug = False) -> None:
    """Every kind of step, with what it does in one line."""
    from headwater.flows.console import Console
    from headwater.flows.steps_command import list_kinds

    console = Console(json, debug)
    with console.reporting():
        list_kinds(console)


@steps_app.command("show")
def steps_show(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="One of `headwater steps list`.")],
    json: Json = False,
    debug: Debug = False,
) -> None:
    """What a kind of step does, its keys, and an example."""
    from headwater.flows.console import Console
    from headwater.flows.steps_command import show_kind

    console = Console(json, debug)
    with console.reporting():
        show_kind(kind, console)


@steps_app.command("check")
def steps_check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="TOML file of steps.")],
    source: Annotated[
        list[str],
        typer.Option("--source", metavar="URI", help="What the steps are for; may be repeated."),
    ],
    side: Side = None,
    drift: Drifting = "widen",
    bad_rows: BadRowsOption = BadRows.REFUSE,
    encoding: Encoding = "utf-8",
    delimiter: Delimiter = "",
    max_expansion: Expansion = MAX_EXPANSION,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Check a file of steps against a source: its plan and its result, without running it."""
    from headwater.flows.console import Console
    from headwater.flows.steps_command import check_file

    console = Console(json, debug)
    with console.reporting():
        from headwater.flows.parameters import read_options

        read = read_options(drift, bad_rows, encoding, delimiter, max_expansion)
        check_file(file, source, _named(side or []), console, read=read)


@prices_app.command("show")
def prices_show(
    cloud: Annotated[Cloud | None, typer.Option("--cloud", help="Of this cloud.")] = None,
    region: Annotated[
        str | None,
        typer.Option(
            "--region", metavar="NAME", help="In this region; with --cloud also what leaves it."
        ),
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option("--gpu", metavar="NAME", help="With this GPU, such as A10G; '' for none."),
    ] = None,
    market: Annotated[
        Literal["on-demand", "spot"] | None, typer.Option("--market", help="Sold this way.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Offers at most. [default: 20]")
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """What machines cost, the cheapest first, and how old the prices are."""
    from headwater.flows.console import Console
    from headwater.flows.prices_command import show
    from headwater.infra.models import Market

    console = Console(json, debug)
    with console.reporting():
        sold = {"on-demand": Market.ON_DEMAND, "spot": Market.SPOT}
        asked = sold[market] if market else None
        show(console, cloud=cloud, region=region, gpu=gpu, market=asked, limit=limit)


@prices_app.command("check")
def prices_check(json: Json = False, debug: Debug = False) -> None:
    """Look for prices that cannot be true, in all tables; exit 2 where there are some."""
    from headwater.flows.console import Console
    from headwater.flows.prices_command import check

    console = Console(json, debug)
    with console.reporting():
        check(console)


@prices_app.command("refresh")
def prices_refresh(
    cloud: Annotated[
        list[Cloud] | None, typer.Option("--cloud", help="Of this cloud; may be repeated.")
    ] = None,
    source: Annotated[
        Literal["own", "gpuhunt"],
        typer.Option("--source", help="The clouds' own lists, or gpuhunt's catalog of them."),
    ] = "own",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Read today's prices of machines into the user's own tables, which then hold."""
    from headwater.flows.console import Console
    from headwater.flows.prices_command import run_refresh

    console = Console(json, debug)
    with console.reporting():
        run_refresh(console, cloud or [], source)


@app.command("locate")
def locate_data(
    uri: Annotated[
        list[str], typer.Argument(metavar="URI...", help="Files, folders, globs or tables.")
    ],
    profile: Profile = "local",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Where data is (cloud and regions), how much of it, and how that was found."""
    from headwater.flows.console import Console
    from headwater.flows.locate_command import locate_all

    console = Console(json, debug)
    with console.reporting():
        locate_all(uri, profile, console)


@profiles_app.command("list")
def profiles_list(json: Json = False, debug: Debug = False) -> None:
    """Every cluster profile that can be named, and its file."""
    from headwater.flows.console import Console
    from headwater.flows.profiles_command import list_profiles

    console = Console(json, debug)
    with console.reporting():
        list_profiles(console)


@profiles_app.command("show")
def profiles_show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name, or the path of a file.")],
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Every value of a cluster profile, and the file that says it."""
    from headwater.flows.console import Console
    from headwater.flows.profiles_command import show_profile

    console = Console(json, debug)
    with console.reporting():
        show_profile(name, console)


@policies_app.command("show")
def policies_show(profile: Profile = "local", json: Json = False, debug: Debug = False) -> None:
    """Every rule that holds here for a cluster profile, and the file that says it."""
    from headwater.flows.console import Console
    from headwater.flows.profiles_command import show_rules

    console = Console(json, debug)
    with console.reporting():
        show_rules(profile, console)


@clusters_app.command("list")
def clusters_list(
    cloud: Clouds = None,
    region: Regions = None,
    run: OfRun = "",
    cluster: OfCluster = "",
    profile: Profile = "local",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """All that Headwater holds in the clouds: its age, run, lease and price."""
    from headwater.flows.console import Console

    console = Console(json, debug)
    with console.reporting():
        from headwater.flows.clusters_command import Asked, list_clusters

        asked = Asked(profile, tuple(cloud or ()), tuple(region or ()), run, cluster)
        list_clusters(asked, console)


@clusters_app.command("reap")
def clusters_reap(
    cloud: Clouds = None,
    region: Regions = None,
    run: OfRun = "",
    cluster: OfCluster = "",
    yes: Annotated[bool, typer.Option("--yes", help="Remove it, and do not ask.")] = False,
    profile: Profile = "local",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Remove what is past its lease, or all of one run or cluster; needs no record of this machine.

    Without --yes it asks, and where nobody can be asked it only tells.
    """
    from headwater.flows.console import Console

    console = Console(json, debug)
    with console.reporting():
        from headwater.flows.clusters_command import Asked, reap

        asked = Asked(profile, tuple(cloud or ()), tuple(region or ()), run, cluster)
        reap(asked, console, yes=yes)


@network_app.command("check")
def network_check(
    profile: Annotated[
        str, typer.Option("--profile", metavar="NAME", help="Cluster profile that names networks.")
    ],
    cloud: Annotated[
        list[Cloud] | None, typer.Option("--cloud", help="Of this cloud; may be repeated.")
    ] = None,
    region: Annotated[
        str, typer.Option("--region", metavar="NAME", help="Look in this region alone.")
    ] = "",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Whether a rule lets the whole world reach a scheduler or its dashboard; exit 2 if so."""
    from headwater.flows.console import Console

    console = Console(json, debug)
    with console.reporting():
        from headwater.flows.network_command import check_networks

        check_networks(profile, tuple(cloud or ()), region, console)


@app.command()
def transfer(
    source: Annotated[
        str, typer.Argument(metavar="SRC", help="Object, folder, pattern or table to copy.")
    ],
    target: Annotated[
        str,
        typer.Argument(
            metavar="DST", help="Folder to copy to; of one object, also its new address."
        ),
    ],
    version: Annotated[
        int | None, typer.Option("--version", min=0, help="Of the table. [default: its last]")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace objects that have other content.")
    ] = False,
    reread: Annotated[
        bool,
        typer.Option(
            "--reread", help="Read every copy back, also where its store vouches for the bytes."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell what would be copied.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Copy between any two stores, check every byte, and copy nothing twice."""
    from headwater.flows.console import Console

    console = Console(json, debug)
    with console.reporting():
        from headwater.flows.transfer_command import run_transfer_command
        from headwater.infra.storage.transfer.models import TransferRequest

        request = TransferRequest(source, target, version, overwrite, reread)
        run_transfer_command(request, console, dry_run=dry_run)


@app.command()
def doctor(
    uri: Annotated[
        list[str] | None,
        typer.Argument(metavar="[URI]...", help="Stores to write to and read from."),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Check this machine, its versions and GPUs, and the way to each store."""
    from headwater.flows.console import Console
    from headwater.flows.doctor import examine

    console = Console(json, debug)
    with console.reporting():
        examine(uri or [], console)


def _require_none_given(context: typer.Context, *names: str, beside: str) -> None:
    """Refuse options that say nothing without another; variables may be set at any time."""
    from headwater.infra.errors import InvalidRequest

    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise InvalidRequest(
                f"--{name} is for {beside}, which is not given", hint=f"add {beside}"
            )


def _follow_up(text: str) -> ThenParameters:
    """A ``TARGET=FILE`` or ``TARGET=MODULE:FUNCTION`` option as parameters."""
    from headwater.flows.parameters import ThenParameters
    from headwater.infra.errors import InvalidRequest

    target, equals, job = text.rpartition("=")
    if not (equals and target and job):
        raise InvalidRequest(
            f"--then {text} is no TARGET=FILE and no TARGET=MODULE:FUNCTION",
            hint="write --then daily=daily.toml",
        )
    if job.endswith(".toml"):
        return ThenParameters(target=target, steps_file=Path(job))
    return ThenParameters(target=target, job=job)


def _named(pairs: list[str]) -> dict[str, str]:
    """``NAME=URI`` options as a mapping."""
    from headwater.infra.errors import InvalidRequest

    named: dict[str, str] = {}
    for pair in pairs:
        name, equals, uri = pair.partition("=")
        if not (equals and name and uri):
            raise InvalidRequest(f"--side {pair} is no NAME=URI", hint="write --side NAME=URI")
        if name in named:
            raise InvalidRequest(f"--side {name} is given twice", hint="give each name once")
        named[name] = uri
    return named


if __name__ == "__main__":
    main()
