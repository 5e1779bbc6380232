"""The commented run file that `quakestream init` writes, with every key."""

import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDraft:
    """Values of a run file that is about to be written. Empty text: the user fills it in."""

    event_id: str = "kahramanmaras-2023"
    time: str = "2023-02-06T01:17:34Z"
    aoi: str = "aoi.geojson"
    catalog: str = "catalog.json"
    asset: str = "visual"
    post: str = "2023-02-06T01:17:34Z/2023-03-01"
    pre: str = "2018-01-01/2023-02-05"
    notes: tuple[str, ...] = ()
    """Facts from a catalogue, written as comments."""

    @property
    def blanks(self) -> tuple[str, ...]:
        """Keys that the user has to fill in before the file can be used."""
        keys = {
            "event.time": self.time,
            "imagery.post.datetime": self.post,
            "imagery.pre.datetime": self.pre,
        }
        return tuple(key for key, value in keys.items() if not value)


def run_template(draft: RunDraft | None = None) -> str:
    """The text of a commented run file; optional sections are commented out."""
    draft = draft or RunDraft()
    blank = "null    # FILL IN: a catalogue does not hold it"
    values = {
        "EVENT_ID": json.dumps(draft.event_id),
        "TIME": draft.time or blank,
        "AOI": json.dumps(draft.aoi),
        "CATALOG": json.dumps(draft.catalog),
        "ASSET": json.dumps(draft.asset),
        "POST": draft.post or blank,
        "PRE": draft.pre or blank,
        "NOTES": "".join(f"# {note}\n" for note in draft.notes),
    }
    text = _TEMPLATE
    for name, value in values.items():
        text = text.replace(f"<{name}>", value)
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


_TEMPLATE = """\
# A run of quakestream: one verdict per building after an earthquake.
#
#   quakestream plan THIS_FILE    checks everything, reads no pixel, states time and cost
#   quakestream map THIS_FILE     makes the map; run it again and it resumes
#
# Paths are relative to this file, or URIs: s3://, gs://, az://, https://.
# Lines that begin with "#" are explanations and optional keys.
<NOTES>
event:
  id: <EVENT_ID>    # your name for the event, or the ShakeMap's (us6000jllz)
  # Origin time with its zone (Z is UTC). Scenes before it are pre-event, after it post-event.
  time: <TIME>

# Area of interest: a vector file of any kind and CRS, WKT, or west,south,east,north in degrees.
# Of several layers all count; {path: admin.gpkg, layer: ADM_2} takes one.
aoi: <AOI>

imagery:
  # A STAC catalogue, STAC API or item collection, or a list: [a.tif, b.tif].
  # Only GeoTIFFs? `quakestream catalog *.tif -o stac` makes a catalogue of them.
  catalog: <CATALOG>
  # The asset with red, green and blue. Models of reflectance (Sentinel-2, HLS) find their bands
  # by name in all assets of an item: one that holds all of them, else one for each band. A list,
  # such as [visual, B02, B03, B04, B08], limits both to the assets that it names.
  asset: <ASSET>
  # Which bands are red, green and blue, counted from 1. Left out: the catalogue says it, else
  # the file. Blue, green, red, near infrared is [3, 2, 1].
  # bands: [3, 2, 1]
  # Scenes after the event. A date alone is the whole UTC day; .. leaves an end open.
  post:
    datetime: <POST>
    max_cloud: 60        # percent; leave out to use all. Clouds are masked in any case
    max_off_nadir: 40    # degrees; oblique scenes show walls and lean over their neighbours
    # bands: [3, 2, 1]   # of these scenes alone, where the epochs differ
  # Scenes before the event. Leave the section out for a model that needs post only.
  pre:
    datetime: <PRE>
    max_cloud: 60
    max_off_nadir: 40
    # bands: [3, 2, 1]
  # best: each building in its best view; all: in every view. Left out: the profile decides.
  # views: best
  # A tile store made by `quakestream tile`, read instead of the scenes.
  # store: tiles.zarr

# Building outlines: GeoParquet, GeoPackage, GeoJSON, shapefile, CSV with WKT, ... also zipped.
footprints:
  path: buildings.parquet
  # The column with a stable id per building. fid: the file's feature numbers; auto: a digest of
  # the outline. Left out: the column id, and auto where there is none.
  id: id
  # The layer to read, where the file holds several.
  # layer: buildings

# Shaking, site condition and proxy layers. Each becomes a column of the map, and models that
# were trained with it use it. Values that a building lacks are listed in hazard_missing.
# hazard:
#   # ShakeMap grid.xml, one per event; the largest value counts. MMI, PGA, PGV, PSA 0.3/1.0/3.0 s.
#   shakemaps: [us6000jllz/grid.xml, us6000jlqa/grid.xml]
#   # VS30 in m/s, a raster or a CSV with lon, lat, vs30. Left out: the ShakeMap's own.
#   vs30: vs30.tif
#   # One-band rasters by column name: damage proxy maps, SAR backscatter, ... A raster named
#   # mmi, pga_g, pgv_cm_s, psa03_g, psa10_g, psa30_g or vs30_m_s fills that column where no
#   # ShakeMap or VS30 file has a value.
#   layers: {dpm: dpm.tif, sar_vv: vv.tif, sar_vh: vh.tif}

# Elevation, for landslides: metres, or the unit that the band or the vertical CRS states.
# terrain:
#   # A raster, a list of its tiles, a Zarr array (dem.zarr, dem.zarr/elevation), a STAC item or
#   # item collection (items.json), a static catalogue, a collection of a STAC API
#   # (https://…/collections/cop-dem-glo-30), or a folder of tiles or items.
#   dem: dem.tif
#   # Asset of the items, or array of the Zarr group. Left out: the one of elevations.
#   asset: data
#   # Unit of elevations in files that state none. Left out: m.
#   unit: ft
#   # The landslide prior from shaking (Nowicki Jessee 2018) needs hazard.shakemaps and the three
#   # layers below, as USGS distributes them; on any grids, also without CRS or nodata tag.
#   lithology: GLIM_replace.tif          # coefficients, not class numbers
#   landcover: globcover_replace.tif     # coefficients, not class numbers
#   cti: global_cti_fil.grd              # compound topographic index
#   # Standard deviation of the prior's logit. Left out: 0.03.
#   stddev: jessee_standard_deviation.tif
#   # Gradient (rise over run). Left out: the slopes of the DEM.
#   slope: global_grad.tif
#   # How the prior reads shaking between the nodes of a ShakeMap: bilinear, or triangles as in
#   # USGS's own runs, to compare with their products.
#   shaking: bilinear
#   # Slides whose ground is flatter than this on average, degrees, are left out and counted
#   # apart: roofs, rubble and fields look like slides. 0 keeps all.
#   least_slope_deg: 5

# Model bundles: shipped names (`quakestream bundle list`), or paths and URIs with a slash.
# models:
#   # Damage per building. Left out: the profile decides (see there). null: none, slides alone.
#   damage: damage-turkiye-2023
#   landslide: ./landslide-bundle    # landslides per pixel
#   # Damage from hazard values alone (task hazard). Its log-odds are added to the image's, and
#   # its probabilities are the columns p_hazard_*, also for buildings that no image shows.
#   hazard: ./hazard-bundle
#   # Share of destroyed buildings that probabilities assume, for calibrated damage models. auto:
#   # estimated in each unit of summary.csv, with an interval. Or a number such as 0.02 for all
#   # buildings, or {layer: NAME} for a raster of hazard.layers that holds shares of 0 to 1.
#   share: auto

# Roads as lines: metres under landslides, per slide and per district.
# roads:
#   path: roads.gpkg
#   layer: roads

# Units of summary.csv: polygons and the column with their names. Left out: 500 m squares.
# summary:
#   admin: districts.gpkg
#   # The layer to read, where the file holds several.
#   layer: ADM_2
#   id: name
#   # The column with their codes, which keep units of one name apart. Left out: no codes.
#   pcode: code

# Products besides the GeoParquet files. scores: class probabilities as raster files.
# gpkg, fgb, kml, pmtiles, hxl, ems, pdf, stac: files for other programs; `quakestream export` makes
# them of a finished map, too.
# outputs: [scores, gpkg, kml]

# The one dial. rapid: lists for tonight (damage-turkiye-2023: fast, finds most). standard: numbers
# to publish (damage-context-2023: surer, about half as fast). exhaustive: every view of a building
# is scored and merged, too.
profile: rapid

# Folder or prefix of the map; `--out` overrides it.
out: map

# Endpoints of object stores. Credentials come from the environment (AWS_ACCESS_KEY_ID, ...) and
# are refused here.
# storage:
#   s3: {endpoint_url: "https://objects.example.org", anon: true}

# Overrides of the profile, for tests and tuning only.
# execution:
#   cell_windows: 4          # side of a cell, in windows of the model
#   group_cells: 4           # cells of a commit group
#   readers: 2               # cells that are read at the same time
#   engines: 1               # engines that are open at the same time; left out: one per GPU
#   threads: 0               # threads of one engine; 0: its runtime decides
#   batch: 32                # items that an engine scores at once; left out: device decides
#   interim_s: 600           # seconds between maps of what is read so far; 0: none
#   runtime: auto            # runtime of the model; auto: the fastest that agrees
"""
