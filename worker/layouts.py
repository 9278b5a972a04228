"""Where a file's label, split and group stand: in its folders or in a metadata file. Looks at names only, never at contents.

Three layouts: `label/file`; `train|validation|test/label/file`; and metadata.csv or .jsonl beside the files or inside split folders.
One folder around everything is passed over.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from models.config import Split, clean_text
from models.errors import DatasetError
from worker.archive_rules import METADATA_NAMES, Archive, Member, safe_parts, shown
from worker.metadata import MetadataRow, parse_metadata

SPLIT_NAMES: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
MAX_LABEL = 100  # characters
MAX_GROUP = 200
_ROWS_PER_MEMBER = 2  # a metadata file may name this many times more files than an archive may hold


@dataclass(frozen=True, slots=True)
class Placement:
    """What is known of one file before it is read; with a `reason` it is not read at all."""

    label: str | None = None
    split: Split | None = None
    group: str | None = None
    reason: str | None = None


@dataclass
class Layout:
    """Where every file of an archive belongs."""

    placements: dict[str, Placement] = field(default_factory=dict)
    """by member name; metadata files themselves have none"""
    missing: dict[str, Placement] = field(default_factory=dict)
    """files that only the metadata knows, by the name given there"""
    warnings: list[dict[str, str]] = field(default_factory=list)


def plan_layout(archive: Archive, max_members: int) -> Layout:
    """Return the place of every member. Raises DatasetError (metadata_*) for metadata that can't be used."""
    names = [member.name for member in archive.members]
    top = _common_top(names)
    metadata = _metadata_members(archive.members, top)
    if not metadata:
        return _folder_layout(names, top)
    layout = Layout()
    given: dict[str, Placement] = {}
    for folder, member in sorted(metadata.items()):
        base = "/".join(part for part in (top, folder) if part)
        rows = parse_metadata(member.name, archive.read(member), _ROWS_PER_MEMBER * max_members)
        _take_rows(rows, base, SPLIT_NAMES.get(folder.casefold()), given, layout)
    sources = {member.name for member in metadata.values()}
    files = [name for name in names if name not in sources]
    layout.placements = {name: given.pop(name, Placement(reason="not_in_metadata")) for name in files}
    layout.missing = {name: replace(placement, reason="missing_from_archive") for name, placement in given.items()}
    return layout


def _common_top(names: list[str]) -> str:
    """Return the one folder that is around everything, "" without one; a split's or a label's own folder is none."""
    tops = {name.partition("/")[0] for name in names}
    if len(tops) != 1:
        return ""
    (top,) = tops
    inner = [name.split("/")[1:] for name in names]
    described = any(len(parts) == 1 and parts[0] in METADATA_NAMES for parts in inner)
    if top.casefold() in SPLIT_NAMES or not (described or any(len(parts) > 1 for parts in inner)):
        return ""
    return top


def _metadata_members(members: Iterable[Member], top: str) -> dict[str, Member]:
    """Return folder ("" or a split's, below `top`) → its metadata file. One at the root speaks for everything."""
    found: dict[str, Member] = {}
    for member in members:
        parts = _below(member.name, top)
        if parts is None or parts[-1] not in METADATA_NAMES or len(parts) > 2:
            continue
        folder = "" if len(parts) == 1 else parts[0]
        if folder and folder.casefold() not in SPLIT_NAMES:
            continue
        if folder in found:
            raise DatasetError(
                f"{found[folder].name} and {member.name} stand side by side; only one can hold",
                code="metadata_ambiguous",
                param=member.name,
            )
        found[folder] = member
    return {"": found[""]} if "" in found else found


def _take_rows(rows: Iterable[MetadataRow], base: str, split: Split | None, given: dict[str, Placement], layout: Layout) -> None:
    nameless = 0
    for row in rows:
        if not row.file_name:
            nameless += 1
            continue
        name, placement = _member_name(row.file_name, base), _place_row(row, split)
        if given.setdefault(name, placement) != placement:
            given[name] = Placement(reason="metadata_conflict")
    if nameless:
        layout.warnings.append({"code": "metadata_nameless", "message": f"{nameless} rows of the metadata name no file"})


def _member_name(file_name: str, base: str) -> str:
    """Return the member that a row means; a name that can't be one is kept, quoted, for the report."""
    try:
        parts = safe_parts(file_name.replace("\\", "/"))
    except DatasetError:
        return shown(file_name)
    return "/".join([base, *parts] if base else parts) or shown(file_name)


def _place_row(row: MetadataRow, split: Split | None) -> Placement:
    if row.split:
        split = SPLIT_NAMES.get(row.split.casefold())
        if split is None:
            return Placement(reason="split_unknown")
    try:
        label, group = clean_text(row.label), clean_text(row.group) or None
    except ValueError:
        return Placement(split=split, reason="label_invalid")
    if not label:
        return Placement(split=split, group=group, reason="no_label")
    if len(label) > MAX_LABEL or len(group or "") > MAX_GROUP:
        return Placement(split=split, reason="label_invalid")
    return Placement(label, split, group)


def _folder_layout(names: list[str], top: str) -> Layout:
    parts_of = {name: _below(name, top) or [name] for name in names}
    place = _place_in_split if _has_split_folders(parts_of.values()) else _place_in_label
    return Layout({name: place(parts) for name, parts in parts_of.items()})


def _has_split_folders(all_parts: Iterable[list[str]]) -> bool:
    """Whether the first folders name splits: most files in folders lie in one below a folder named after a split.

    A word list may well have the labels "test" or "train"; then there are others beside them, with files right inside.
    """
    kinds = Counter(parts[0].casefold() in SPLIT_NAMES and len(parts) > 2 for parts in all_parts if len(parts) > 1)
    return kinds[True] > kinds[False]


def _place_in_label(parts: list[str]) -> Placement:
    return _checked(Placement(parts[0])) if len(parts) > 1 else Placement(reason="no_label")


def _place_in_split(parts: list[str]) -> Placement:
    split = SPLIT_NAMES.get(parts[0].casefold())
    if split is None or len(parts) < 3:
        return Placement(split=split, reason="no_label")
    return _checked(Placement(parts[1], split))


def _checked(placement: Placement) -> Placement:
    """Refuse folder names that are too long or only spaces; their characters have been checked with the archive's names."""
    label = (placement.label or "").strip()
    if not label or len(label) > MAX_LABEL:
        return Placement(split=placement.split, reason="label_invalid")
    return replace(placement, label=label)


def _below(name: str, top: str) -> list[str] | None:
    """Return the parts of a name below the folder `top` ("": the root), None for a name elsewhere."""
    parts = name.split("/")
    if not top:
        return parts
    return parts[1:] if parts[0] == top and len(parts) > 1 else None
