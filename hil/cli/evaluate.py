"""``hil eval``: how good weights are, on data that they have not seen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hil.cli.guard import Verbose, guarded
from hil.cli.run import Json
from hil.cli.train import assignments, put

DataSetting = Annotated[
    list[str] | None,
    typer.Option("--data", metavar="PATH=VALUE", help="Other test data than it was trained for, e.g. snr_db=[0,0]."),
]


@guarded
def evaluate(
    weights: Annotated[str, typer.Argument(metavar="WEIGHTS", help="A .safetensors file, or a shipped name.")],
    data: DataSetting = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Test examples; fewer where fewer were recorded.")] = 1000,
    seed: Annotated[int | None, typer.Option(help="Of the test data; default: that of the training.")] = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Leave a picture: spectra of the first test example.")
    ] = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Print position errors of a trained network and of plain MUSIC, side by side on the same test data.

    Test data are a split of their own: no place is shared with training, whatever the seed.

    \b
    [cyan]hil eval nf_subspacenet_n15[/cyan]
    [cyan]hil eval out/mine/weights.safetensors --data snr_db=[20,20] --n 2000 --json[/cyan]
    [cyan]hil eval nf_subspacenet_n15 --picture spectra.png[/cyan]
    """
    import sys

    from rich.console import Console
    from rich.progress import Progress

    from hil.cli.flowgraph import load_object
    from hil.cli.output import write_json
    from hil.view.picture import check_can_draw
    from hil.view.spectra import draw_spectra
    from hil.wavefront import SPEED_OF_LIGHT_M_S

    if picture is not None:
        check_can_draw(picture)
    path = load_object("blocks.neural.weights:weights_path")(weights)
    model, card = load_object("blocks.neural.weights:load_model")(path)
    plain: dict[str, Any] = dict(card.data)
    for where, value in assignments(data or ()):
        put(plain, where, value)
    test = load_object(card.data_factory)(plain, card.seed if seed is None else seed, "test")
    frequency_hz = SPEED_OF_LIGHT_M_S / test.wavelength_m
    load_object("blocks.neural.weights:check_fits")(card, test.array, frequency_hz, f"evaluation of {path}")
    n = load_object("blocks.neural.training:at_most")(test, n)
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("evaluating", total=n)
        rows = load_object("blocks.neural.evaluate:evaluate")(
            model, test, test.array, test.wavelength_m, test.range_m, n, on_done=lambda k: bar.update(task, completed=k)
        )
    if as_json:
        for row in rows:
            write_json({"weights": str(path), "data": plain, **row._asdict()})
    else:
        _print_table(card, rows)
    if picture is not None:
        draw_spectra(picture, load_object("blocks.neural.evaluate:spectra")(model, test, test.array, test.wavelength_m))


def _print_table(card: Any, rows: list[Any]) -> None:
    from rich.table import Table

    from hil.cli.console import StdoutConsole

    table = Table(title=f"{card.system}: position errors, n = {rows[0].n}, number of sources given")
    for column in ("method", "mean m", "± 95 %", "median m", "root mean square m", "too few found"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for row in rows:
        figures = (row.mean_m, row.ci95_m, row.median_m, row.rms_m)
        table.add_row(row.method, *(f"{f:.3f}" for f in figures), f"{100 * row.short:.1f} %")
    StdoutConsole(100).print(table)
