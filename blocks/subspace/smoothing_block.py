"""The blocks SpatialSmoothing and RectangleSmoothing: smoothed covariances, and the subarray that they belong to."""

from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from blocks.subspace.block_input import described_array
from blocks.subspace.spatial_smoothing import smooth_line, smooth_rectangle
from blocks.subspace.toeplitz import uniform_spacing
from blocks.subspace.uniform_rectangle import uniform_rectangle
from hil.array import ArrayGeometry
from hil.block import Block, Result
from hil.descriptor import descriptor_frame
from hil.errors import ParamError
from hil.frame import Frame
from hil.params import Params
from hil.streams import COVARIANCE, port_of

Array = Any  # NumPy


class SmoothingBlock(Block):
    """Base: covariances of a uniform array in, of its subarrays out, with the descriptor of one of them.

    For far-field estimators behind it, which see a subarray's worth of elements about the array's centre.
    """

    inputs = {"covariance": port_of(COVARIANCE)}

    def subarray(self, array: ArrayGeometry) -> tuple[ArrayGeometry, Callable[[Array], Array]]:
        """The subarray, and the function that smooths covariances of ``array``."""
        raise NotImplementedError

    def on_descriptor(self, frame: Frame, port: str) -> None:
        super().on_descriptor(frame, port)
        if self.array is not None:
            self._sub, self._smooth = self.subarray(self.array)

    def feed(self, port: str, frame: Frame) -> list[tuple[str, Frame]]:
        out = super().feed(port, frame)
        if frame.header.kind != "descriptor" or self.array is None:
            return out
        extra = {key: value for key, value in frame.header.meta.items() if key != "array"}
        return [(name, descriptor_frame(told.header, self._sub, extra)) for name, told in out]

    def process(self, arrays: dict[str, Any]) -> Result:
        described_array(self, len(arrays["covariance"]))
        smoothed = np.ascontiguousarray(self._smooth(arrays["covariance"]))
        return {"covariance": smoothed, "n_snapshots": arrays["n_snapshots"]}

    def out_header(self, port: str, arrays: Any, changes: Any) -> Any:
        return super().out_header(port, arrays, {"array_id": self._sub.array_id, **changes})


class SpatialSmoothingParams(Params, frozen=True):
    n_sub: Annotated[int, Meta(ge=2, description="Sensors of a subarray; more than sources")]
    backward: Annotated[bool, Meta(description="Average with the mirrored conjugate too")] = True


class SpatialSmoothing(SmoothingBlock):
    """Smoothed covariance of a uniform line (:func:`blocks.subspace.spatial_smoothing.smooth_line`)."""

    params: SpatialSmoothingParams
    outputs = {"covariance": port_of(COVARIANCE)}

    def subarray(self, array: ArrayGeometry) -> tuple[ArrayGeometry, Callable[[Array], Array]]:
        spacing, n_sub, backward = uniform_spacing(array.channel_position_m), self.params.n_sub, self.params.backward
        if n_sub > array.n_elements:
            raise ParamError(
                f"{self.name}: n_sub {n_sub} is more than the {array.n_elements} elements of array {array.array_id!r}"
            )
        sub = ArrayGeometry.ula(n_sub, spacing, array_id=f"{array.array_id}/{n_sub}", **_pose(array))
        return sub, lambda covariance: smooth_line(covariance, n_sub, backward=backward)


class RectangleSmoothingParams(Params, frozen=True):
    n_rows: Annotated[int, Meta(ge=1, description="Rows (along z) of a subarray")]
    n_columns: Annotated[int, Meta(ge=1, description="Columns (along x) of a subarray")]
    backward: Annotated[bool, Meta(description="Average with the mirrored conjugate too")] = True


class RectangleSmoothing(SmoothingBlock):
    """Smoothed covariance of a uniform rectangle (:func:`blocks.subspace.spatial_smoothing.smooth_rectangle`)."""

    params: RectangleSmoothingParams
    outputs = {"covariance": port_of(COVARIANCE)}

    def subarray(self, array: ArrayGeometry) -> tuple[ArrayGeometry, Callable[[Array], Array]]:
        whole, backward = uniform_rectangle(array.channel_position_m), self.params.backward
        rows, columns = self.params.n_rows, self.params.n_columns
        if rows > whole.n_rows or columns > whole.n_columns:
            raise ParamError(
                f"{self.name}: subarrays of {rows} x {columns} elements of array {array.array_id!r}, which has "
                f"{whole.n_rows} x {whole.n_columns} (rows x columns)"
            )
        sub = ArrayGeometry(
            position_m=whole.positions_m(rows, columns), array_id=f"{array.array_id}/{rows}x{columns}", **_pose(array)
        )
        return sub, lambda covariance: smooth_rectangle(covariance, whole.shape, (rows, columns), backward=backward)


def _pose(array: ArrayGeometry) -> dict[str, Any]:
    return {"orientation_xyzw": array.orientation_xyzw, "origin_m": array.origin_m}
