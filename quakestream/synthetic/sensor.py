"""Renders a surface as a scene: sun, shadow, lean, clouds, haze, gain, blur, noise, nodata."""

from dataclasses import dataclass

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from quakestream.synthetic.noise import fractal
from quakestream.synthetic.settings import GSD_M, SceneLayout, Variety, stream
from quakestream.synthetic.surface import Surface
from quakestream.synthetic.world import SyntheticWorld, transform_points

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

_LEAF = np.array([0.17, 0.25, 0.11])
_STRAW = np.array([0.38, 0.33, 0.24])
_SKY = np.array([0.28, 0.31, 0.36])
"""Light of the sky alone, relative to sun and sky on flat ground."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Acquisition:
    """Sun, view and sensor of one scene. They are random per scene, so no two scenes are alike."""

    sun_azimuth_deg: float
    sun_elevation_deg: float
    off_nadir_deg: float
    view_azimuth_deg: float
    """Direction in which roofs lean."""
    greenness: float
    """0 winter to 1 summer."""
    haze: float
    gain_B: tuple[float, float, float]
    blur_px: float
    noise_dn: float
    shift_m: tuple[float, float]
    """Georeferencing error, east and north, at the scene's centre."""
    wobble_m: float
    """Change of that error over some hundred metres."""

    @classmethod
    def random(
        cls, seed: int, layout: SceneLayout, variety: Variety | None = None
    ) -> "Acquisition":
        """Sun, view and sensor of one scene, by default of the demo's variety."""
        rng = stream(seed, f"look/{layout.id}")
        post = layout.epoch == "post"
        variety = variety or Variety()
        ranges = variety.post if post else variety.pre
        exposure = rng.uniform(0.82, 1.12)
        bearing, error_m = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 1.3)
        gain = exposure * rng.normal(1.0, 0.05, 3)
        return cls(
            sun_azimuth_deg=float(rng.uniform(140, 178) if post else rng.uniform(115, 160)),
            sun_elevation_deg=float(rng.uniform(*ranges.sun_elevation_deg)),
            off_nadir_deg=float(rng.uniform(*ranges.off_nadir_deg)),
            view_azimuth_deg=float(rng.uniform(0, 360)),
            greenness=float(rng.uniform(0.1, 0.6) if post else rng.uniform(0.4, 1.0)),
            haze=float(rng.uniform(*ranges.haze)),
            gain_B=(float(gain[0]), float(gain[1]), float(gain[2])),
            blur_px=float(rng.uniform(*ranges.blur_px)),
            noise_dn=float(rng.uniform(1.5, 4.0)),
            shift_m=(float(error_m * np.cos(bearing)), float(error_m * np.sin(bearing))),
            wobble_m=float(rng.uniform(0.1, 0.35)),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SceneImage:
    """Pixels of one scene on its own UTM lattice."""

    pixels_BYX: NDArray[np.uint8]
    """1..255 where the sensor has data, else 0."""
    valid_YX: NDArray[np.bool_]
    cloud_YX: NDArray[np.bool_]
    """True under visible cloud; this is truth and not a product."""
    epsg: int
    transform: Affine


def render(
    seed: int,
    surface: Surface,
    world: SyntheticWorld,
    layout: SceneLayout,
    acquisition: Acquisition,
) -> SceneImage:
    """Renders the scene `layout` of a surface, with the sun, view and sensor of `acquisition`."""
    rng = stream(seed, f"sensor/{layout.id}")
    lit_BYX = _lean(_lit(surface, acquisition), surface.height_YX, acquisition)
    cloud_YX = _cloud_density(rng, world, layout)
    _veil(lit_BYX, cloud_YX, acquisition)
    for band in range(3):
        lit_BYX[band] = gaussian_filter(lit_BYX[band], acquisition.blur_px, truncate=3.0)
    epsg = world.home_epsg if layout.zone == "home" else world.neighbour_epsg
    transform, shape = _lattice(world, layout, epsg)
    coordinates = _source_pixels(rng, world, acquisition, epsg, transform, shape)
    radiance = np.stack([map_coordinates(b, coordinates, order=1, mode="nearest") for b in lit_BYX])
    cloudy = map_coordinates(cloud_YX, coordinates, order=0, mode="nearest") > 0.3
    valid_YX = _swath(layout, shape)
    pixels = _counts(rng, radiance, acquisition)
    pixels[:, ~valid_YX] = 0
    return SceneImage(
        pixels_BYX=pixels,
        valid_YX=valid_YX,
        cloud_YX=cloudy & valid_YX,
        epsg=epsg,
        transform=transform,
    )


def counts_of(
    rng: np.random.Generator, surface: Surface, acquisition: Acquisition
) -> NDArray[np.uint8]:
    """Counts of a cloudless surface on its own raster, without shifts and nodata."""
    lit_BYX = _lean(_lit(surface, acquisition), surface.height_YX, acquisition)
    blurred = [gaussian_filter(band, acquisition.blur_px, truncate=3.0) for band in lit_BYX]
    return _counts(rng, np.stack(blurred), acquisition)


def _lit(surface: Surface, acquisition: Acquisition) -> F32:
    """Reflected light from season, slope towards the sun, cast shadow and light of the sky."""
    height = surface.height_YX
    leaf = acquisition.greenness * _LEAF + (1 - acquisition.greenness) * _STRAW
    ground = height if surface.ground_YX is None else height + surface.ground_YX
    cosine = _sun_cosine(ground, acquisition)
    sunlit = (1.0 - _cast_shadow(height, acquisition)) * np.clip(cosine, 0.0, 1.7)
    lit = np.empty_like(surface.albedo_BYX)
    for band in range(3):
        albedo = surface.albedo_BYX[band]
        # Half of the texture of the bare ground shows through the leaves.
        green = np.float32(leaf[band]) * (0.6 + albedo)
        mixed = albedo + surface.vegetation_YX * (green - albedo)
        sky = np.float32(_SKY[band])
        lit[band] = mixed * (sky + (1 - sky) * sunlit)
    return lit


def _sun_cosine(height_YX: F32, acquisition: Acquisition) -> F32:
    """Cosine of the angle between ground and sun, relative to flat ground."""
    azimuth, elevation = np.deg2rad([acquisition.sun_azimuth_deg, acquisition.sun_elevation_deg])
    slopes: list[F32] = list(np.gradient(height_YX, GSD_M))
    south_slope, east_slope = slopes
    east_slope = np.clip(east_slope, -1.2, 1.2)
    north_slope = -np.clip(south_slope, -1.2, 1.2)
    up, flat = np.float32(np.sin(elevation)), np.float32(np.cos(elevation))
    east, north = flat * np.float32(np.sin(azimuth)), flat * np.float32(np.cos(azimuth))
    length = np.sqrt(1.0 + east_slope**2 + north_slope**2)
    cosine = (up - east_slope * east - north_slope * north) / (length * up)
    return np.asarray(cosine, dtype=np.float32)


def _moved(values_YX: F32, rows: int, cols: int) -> F32:
    """The raster whose pixel (r, c) is `values_YX` at (r + rows, c + cols), 0 beyond the edge."""
    height, width = values_YX.shape
    out = np.zeros_like(values_YX)
    to = (
        slice(max(-rows, 0), height - max(rows, 0)),
        slice(max(-cols, 0), width - max(cols, 0)),
    )
    source = (
        slice(max(rows, 0), height - max(-rows, 0)),
        slice(max(cols, 0), width - max(-cols, 0)),
    )
    out[to] = values_YX[source]
    return out


def _cast_shadow(height_YX: F32, acquisition: Acquisition) -> F32:
    """1 in full shadow, 0 in the sun, by ray marching towards the sun with doubling steps."""
    azimuth, elevation = np.deg2rad([acquisition.sun_azimuth_deg, acquisition.sun_elevation_deg])
    drop_m = GSD_M * np.tan(elevation)
    reach_px = float(height_YX.max()) / drop_m
    # top(r, c) = max over s of height(r - s cos az, c + s sin az) - s drop
    top = _moved(height_YX, -round(np.cos(azimuth)), round(np.sin(azimuth))) - np.float32(drop_m)
    step = 1
    while step < reach_px:
        rows, cols = -round(step * np.cos(azimuth)), round(step * np.sin(azimuth))
        top = np.maximum(top, _moved(top, rows, cols) - np.float32(step * drop_m))
        step *= 2
    return np.asarray(np.clip((top - height_YX) / 0.6, 0.0, 1.0), dtype=np.float32)


def _lean(lit_BYX: F32, height_YX: F32, acquisition: Acquisition) -> F32:
    """Moves high pixels along the view direction; walls that face the sensor appear."""
    azimuth, tilt = np.deg2rad([acquisition.view_azimuth_deg, acquisition.off_nadir_deg])
    rise_m = np.float32(GSD_M / np.tan(tilt))
    steps = int(float(height_YX.max()) / float(rise_m)) + 1
    offset = np.zeros(height_YX.shape, np.int8)
    wall_m = np.zeros(height_YX.shape, np.float32)
    shifts = [(round(k * np.cos(azimuth)), -round(k * np.sin(azimuth))) for k in range(steps + 1)]
    for k in range(1, steps + 1):
        there = _moved(height_YX, *shifts[k])
        hit = there >= k * rise_m
        offset[hit] = k
        wall_m[hit] = there[hit] - k * rise_m
    out = lit_BYX.copy()
    sunny = np.cos(np.deg2rad(acquisition.view_azimuth_deg + 180.0 - acquisition.sun_azimuth_deg))
    for k in range(1, steps + 1):
        where = offset == k
        if not where.any():
            continue
        facade = wall_m[where] > 1.3 * rise_m
        # Windows: a dark band on every floor.
        window = np.where(np.mod(wall_m[where], 2.9) < 1.3, 0.72, 1.0)
        wall = (0.30 + 0.35 * max(float(sunny), 0.0)) * window
        for band in range(3):
            source = _moved(lit_BYX[band], *shifts[k])[where]
            out[band][where] = np.where(facade, wall * (0.25 + 0.55 * source) * 1.2, source)
    return out


def _cloud_density(rng: np.random.Generator, world: SyntheticWorld, layout: SceneLayout) -> F32:
    """Opacity of clouds over the world's raster, 0 to 1, soft at the edges."""
    density = np.zeros(world.shape, np.float32)
    if not layout.clouds:
        return density
    rough = fractal(rng, world.shape, 128, 4, gain=0.62)
    t = world.transform
    x = np.float32(t.c) + (np.arange(world.shape[1], dtype=np.float32) + 0.5) * np.float32(t.a)
    y = np.float32(t.f) + (np.arange(world.shape[0], dtype=np.float32) + 0.5) * np.float32(t.e)
    for fraction_x, fraction_y, radius_m in layout.clouds:
        cx, cy = world.at(fraction_x, fraction_y)
        distance = np.hypot(x[None, :] - np.float32(cx), y[:, None] - np.float32(cy))
        body = 1.6 * (1.0 - distance / np.float32(radius_m)) + 0.28 * rough
        density = np.maximum(density, np.clip(1.3 * body + 0.3, 0.0, 0.985).astype(np.float32))
    return density


def _veil(lit_BYX: F32, cloud_YX: F32, acquisition: Acquisition) -> None:
    """Adds clouds, and their shadows on the ground."""
    if not cloud_YX.any():
        return
    azimuth, elevation = np.deg2rad([acquisition.sun_azimuth_deg, acquisition.sun_elevation_deg])
    away_px = 70.0 / np.tan(elevation) / GSD_M
    shadow = _moved(cloud_YX, -round(away_px * np.cos(azimuth)), round(away_px * np.sin(azimuth)))
    for band, white in enumerate((0.86, 0.87, 0.89)):
        lit_BYX[band] *= 1.0 - 0.55 * shadow
        lit_BYX[band] += cloud_YX * (np.float32(white) - lit_BYX[band])


def _lattice(
    world: SyntheticWorld, layout: SceneLayout, epsg: int
) -> tuple[Affine, tuple[int, int]]:
    """Transform and (height, width) of a scene in its UTM zone."""
    west, south, east, north = layout.extent
    corners = np.array([world.at(west, south), world.at(east, north)])
    width_m, height_m = corners[1] - corners[0]
    centre = world.to_crs(corners.mean(axis=0)[None, :], f"EPSG:{epsg}")[0]
    left = np.round((centre[0] - width_m / 2) / GSD_M) * GSD_M + layout.off_lattice_m
    top = np.round((centre[1] + height_m / 2) / GSD_M) * GSD_M - layout.off_lattice_m
    shape = round(float(height_m) / GSD_M), round(float(width_m) / GSD_M)
    return Affine(GSD_M, 0.0, float(left), 0.0, -GSD_M, float(top)), shape


def world_affine(
    world: SyntheticWorld, epsg: int, transform: Affine, shape: tuple[int, int]
) -> Affine:
    """Best affine map from scene pixels (col, row) to world metres.

    Over two kilometres it differs from the true map by less than 5 cm, a tenth of a pixel.
    """
    rows, cols = np.meshgrid(np.linspace(0, shape[0], 4), np.linspace(0, shape[1], 4))
    pixel = np.column_stack([cols.ravel(), rows.ravel(), np.ones(rows.size)])
    metres = world.from_crs(transform_points(transform, pixel), f"EPSG:{epsg}")
    solution, *_ = np.linalg.lstsq(pixel, metres, rcond=None)
    return Affine(*solution[:, 0], *solution[:, 1])


def _source_pixels(
    rng: np.random.Generator,
    world: SyntheticWorld,
    acquisition: Acquisition,
    epsg: int,
    transform: Affine,
    shape: tuple[int, int],
) -> F32:
    """Row and column of each scene pixel in the world's raster, shape (2, y, x)."""
    to_world = world_affine(world, epsg, transform, shape)
    to_raster = ~world.transform @ to_world
    row, col = np.ogrid[0.5 : shape[0], 0.5 : shape[1]]
    phase = rng.uniform(0, 2 * np.pi, 4)
    wave = 2 * np.pi * GSD_M / rng.uniform(300.0, 700.0, 2)
    wobble_px = acquisition.wobble_m / GSD_M
    sway_col = wobble_px * (np.sin(wave[0] * row + phase[0]) + np.sin(wave[0] * col + phase[1])) / 2
    sway_row = wobble_px * (np.sin(wave[1] * row + phase[2]) + np.sin(wave[1] * col + phase[3])) / 2
    source = np.empty((2, *shape), np.float32)
    source[0] = to_raster.d * col + to_raster.e * row + to_raster.f - 0.5
    source[0] += sway_row + acquisition.shift_m[1] / GSD_M
    source[1] = to_raster.a * col + to_raster.b * row + to_raster.c - 0.5
    source[1] += sway_col - acquisition.shift_m[0] / GSD_M
    return source


def _swath(layout: SceneLayout, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """True inside the sensor's slanted swath."""
    height, width = shape
    if layout.slant_deg == 0.0:
        return np.ones(shape, np.bool_)
    row, col = np.ogrid[0.5:height, 0.5:width]
    slope = np.tan(np.deg2rad(layout.slant_deg))
    across = np.abs((col - width / 2) + slope * (row - height / 2))
    return np.asarray(across < width / 2 - 0.25 * height * abs(slope))


def _counts(
    rng: np.random.Generator, radiance_BYX: F32, acquisition: Acquisition
) -> NDArray[np.uint8]:
    """Sensor counts with haze, gain, tone curve and noise."""
    shape = radiance_BYX.shape[1:]
    uneven = 1.0 + 0.25 * fractal(rng, (shape[0], shape[1]), 512, 256)
    out = np.empty(radiance_BYX.shape, np.uint8)
    for band, tint in enumerate((0.9, 1.0, 1.12)):
        haze = np.float32(acquisition.haze * tint) * uneven
        reflectance = radiance_BYX[band] * (1.0 - 1.2 * haze) + haze
        signal = np.clip(reflectance * np.float32(acquisition.gain_B[band]) / 0.80, 0.0, 1.4)
        counts = 255.0 * signal ** np.float32(0.86)
        counts += np.float32(acquisition.noise_dn) * rng.standard_normal(shape, dtype=np.float32)
        out[band] = np.clip(np.rint(counts), 1, 255)
    return out
