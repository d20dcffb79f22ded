"""Parts of the API server where the contract tests do not reach every case: the wire format, patches, field sets."""

from __future__ import annotations

import doctest
import importlib
import itertools
import struct
from typing import Any

import pytest

from consulfed_lib.sandbox.apiserver import (
    ApiError,
    apply,
    fieldsets,
    patches,
    protobuf,
    schema,
    spdy,
    structural,
)
from consulfed_lib.sandbox.apiserver.resources import BUILT_IN, Resource
from consulfed_lib.sandbox.apiserver.schema import Node

MODULES = ("columns", "fieldsets", "patches", "resources", "selectors", "status", "tables")


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name: str) -> None:
    """What a docstring shows is so."""
    module = importlib.import_module(f"consulfed_lib.sandbox.apiserver.{name}")
    assert doctest.testmod(module).failed == 0


def resource(kind: str) -> Resource:
    return next(found for found in BUILT_IN if found.kind == kind)


# --- protobuf ---


def field(number: int, value: bytes | str | int) -> bytes:
    """One protobuf field of wire type 0 or 2."""

    def varint(number: int) -> bytes:
        out = b""
        while number > 0x7F:
            out += bytes([number & 0x7F | 0x80])
            number >>= 7
        return out + bytes([number])

    if isinstance(value, int):
        return varint(number << 3) + varint(value % (1 << 64))
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def message(api_version: str, kind: str, raw: bytes) -> bytes:
    type_meta = field(1, api_version) + field(2, kind)
    return protobuf.MAGIC + field(1, type_meta) + field(2, raw) + field(3, "") + field(4, "")


def test_protobuf_secret() -> None:
    """Empty fields are left out, bytes become base64, a timestamp of zero is none."""
    metadata = field(1, "s") + field(3, "ns") + field(8, b"") + field(11, field(1, "a") + field(2, ""))
    raw = (
        field(1, metadata) + field(2, field(1, "k") + field(2, b"\xff\x00")) + field(3, "helm.sh/release.v1")
    )
    assert protobuf.decode(message("v1", "Secret", raw)) == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s", "namespace": "ns", "labels": {"a": ""}},
        "data": {"k": "/wA="},
        "type": "helm.sh/release.v1",
    }


def test_protobuf_keeps_what_was_set_on_purpose() -> None:
    """Zero behind a pointer is a value; elsewhere it is nothing."""
    raw = field(1, 0) + field(2, field(1, "u-i-d")) + field(4, "Background")
    assert protobuf.decode(message("v1", "DeleteOptions", raw)) == {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "gracePeriodSeconds": 0,
        "preconditions": {"uid": "u-i-d"},
        "propagationPolicy": "Background",
    }


def test_protobuf_numbers_times_and_either() -> None:
    """Negative integers, IntOrString and times with microseconds come out as JSON has them."""
    budget = field(2, field(1, field(1, 1) + field(2, 0) + field(3, "50%")))
    assert protobuf.decode(message("policy/v1", "PodDisruptionBudget", budget))["spec"] == {
        "minAvailable": "50%"
    }
    lease = field(2, field(2, -1) + field(4, field(1, 1_700_000_000) + field(2, 123_456_000)))
    assert protobuf.decode(message("coordination.k8s.io/v1", "Lease", lease))["spec"] == {
        "leaseDurationSeconds": -1,
        "renewTime": "2023-11-14T22:13:20.123456Z",
    }


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"no magic", 400),
        (message("apps/v1", "ControllerRevision", b""), 415),
        (message("v1", "ConfigMap", field(99, "new")), 415),
        (message("v1", "ConfigMap", field(1, "x" * 9)[:5]), 400),
    ],
)
def test_protobuf_is_refused_rather_than_guessed(body: bytes, code: int) -> None:
    """What cannot be read whole is refused: no field is ever dropped."""
    with pytest.raises(ApiError) as error:
        protobuf.decode(body)
    assert error.value.code == code


# --- patches ---

POD = schema.node_of(resource("Pod"))


def strategic(target: Any, patch: Any) -> Any:
    return patches.strategic_merge_patch(target, patch, POD)


def containers(**images: str) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": name, "image": image} for name, image in images.items()]}}


def test_strategic_merge_of_keyed_lists() -> None:
    """Items are found by key: merged, added, deleted, put in order, or all replaced."""
    base = containers(a="1", b="1")
    assert strategic(base, containers(b="2", c="2")) == containers(a="1", b="2", c="2")
    gone = {"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}
    assert strategic(base, gone) == containers(b="1")
    order = {"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}}
    assert strategic(base, order) == {"spec": {"containers": [*reversed(base["spec"]["containers"])]}}
    replaced = {"spec": {"containers": [{"name": "z", "image": "9"}, {"$patch": "replace"}]}}
    assert strategic(base, replaced) == containers(z="9")
    with pytest.raises(ApiError, match="does not contain declared merge key: name"):
        strategic(base, {"spec": {"containers": [{"image": "1"}]}})


def test_strategic_merge_of_maps_and_primitive_lists() -> None:
    """Maps can be replaced, or keep only what is named; finalizers are a set; other lists are replaced."""
    volume = {"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}
    change = {"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "secret"], "secret": {}}]}}
    assert strategic(volume, change) == {"spec": {"volumes": [{"name": "v", "secret": {}}]}}
    assert strategic({"a": {"x": 1}}, {"a": {"$patch": "replace", "y": 2}}) == {"a": {"y": 2}}
    assert strategic({"a": {"x": 1}}, {"a": {"x": None}}) == {"a": {}}
    held = {"metadata": {"finalizers": ["a", "b"]}}
    assert strategic(held, {"metadata": {"finalizers": ["c"]}}) == {
        "metadata": {"finalizers": ["a", "b", "c"]}
    }
    less = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}
    assert strategic(held, less) == {"metadata": {"finalizers": ["b"]}}
    assert strategic({"args": [1, 2]}, {"args": [3]}) == {"args": [3]}


def test_json_patch_operations() -> None:
    """RFC 6902: the six operations, escapes, and refusals that leave the target as it was."""
    target = {"a": [1, 2], "b/c": {"~": 1}}
    done = patches.json_patch(
        target,
        [
            {"op": "add", "path": "/a/1", "value": 9},
            {"op": "add", "path": "/a/-", "value": 3},
            {"op": "replace", "path": "/b~1c/~0", "value": 2},
            {"op": "copy", "from": "/a/0", "path": "/d"},
            {"op": "move", "from": "/d", "path": "/e"},
            {"op": "test", "path": "/e", "value": 1},
            {"op": "remove", "path": "/a/0"},
        ],
    )
    assert done == {"a": [9, 2, 3], "b/c": {"~": 2}, "e": 1}
    assert target == {"a": [1, 2], "b/c": {"~": 1}}
    for operation in (
        {"op": "remove", "path": "/x"},
        {"op": "replace", "path": "/a/7", "value": 1},
        {"op": "test", "path": "/x", "value": 1},
        {"op": "paint", "path": "/a"},
        {"op": "add", "path": "a", "value": 1},
    ):
        with pytest.raises(ApiError) as error:
            patches.json_patch(target, [operation])
        assert error.value.code == 422


# --- field sets and apply ---


def test_field_sets_come_back_from_their_encoding() -> None:
    """Every path survives the way through FieldsV1, members of keyed lists and sets among them."""
    pod = containers(a="1") | {"metadata": {"finalizers": ["f/x"], "labels": {"a": "b"}}}
    paths = fieldsets.paths_of(pod, POD)
    assert fieldsets.decode(fieldsets.encode(paths)) == paths
    assert ("f:spec", "f:containers", 'k:{"name":"a"}') in paths
    assert ("f:metadata", "f:finalizers", 'v:"f/x"') in paths


def test_comparison_tells_added_modified_and_removed() -> None:
    """What differs is named by its path, whole items with everything in them."""
    found = fieldsets.compare(containers(a="1", b="1"), containers(a="2", c="1"), POD)
    at = ("f:spec", "f:containers")
    assert found.modified == {(*at, 'k:{"name":"a"}', "f:image")}
    assert (*at, 'k:{"name":"c"}') in found.added
    assert (*at, 'k:{"name":"b"}', "f:image") in found.removed


CONFIG_MAP = schema.node_of(resource("ConfigMap"))


def applied(live: Any, manager: str, force: bool = False, **data: str) -> Any:
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data}
    return apply.apply(live, config, apply.Manager(manager, "Apply", "v1"), CONFIG_MAP, force)


def updated(live: Any, manager: str, **data: str) -> Any:
    new = {**live, "data": data}
    return apply.record_update(live, new, apply.Manager(manager, "Update", "v1"), CONFIG_MAP)


def owners(obj: Any) -> dict[str, set[str]]:
    """Manager → the keys of `data` that it owns."""
    return {
        entry["manager"]: {key.removeprefix("f:") for key in entry["fieldsV1"].get("f:data", {})}
        for entry in obj["metadata"]["managedFields"]
    }


def test_an_update_takes_ownership_of_what_it_changes() -> None:
    """The one who updates owns the new values; what it removes no one owns."""
    live = applied(None, "one", x="1", y="1", z="1")
    live = updated(live, "two", x="2", y="1")
    assert owners(live) == {"one": {"y"}, "two": {"x"}}
    with pytest.raises(ApiError, match=r'conflict with "two" using v1 at .*: \.data\.x'):
        applied(live, "one", x="1", y="1")


def test_shared_fields_stay_until_the_last_owner_goes() -> None:
    """A field with two owners is removed when neither applies it any more."""
    live = applied(applied(None, "one", x="1"), "two", x="1")
    live = applied(live, "one")
    assert live["data"] == {"x": "1"}
    assert "data" not in applied(live, "two")


def test_several_conflicts_are_listed_by_manager() -> None:
    """The message has a line for each field, under its manager."""
    live = applied(applied(None, "one", x="1", y="1"), "two", z="1")
    with pytest.raises(ApiError) as error:
        applied(live, "three", x="2", y="2", z="2")
    assert error.value.message == (
        'Apply failed with 3 conflicts: conflicts with "one":\n- .data.x\n- .data.y\nconflicts with "two":\n- .data.z'
    )


def test_too_many_updaters_are_folded() -> None:
    """A dozen managers that each changed something become ten and one of old."""
    live = applied(None, "one")
    for n in range(14):
        live = updated(live, f"m{n:02}", **{f"k{i}": "1" for i in range(n + 1)})
    names = {m["manager"] for m in live["metadata"]["managedFields"] if m["operation"] == "Update"}
    assert len(names) == apply.MAX_UPDATE_MANAGERS
    assert "ancient-changes" in names
    assert set().union(*owners(live).values()) == {f"k{i}" for i in range(14)}


def test_order_of_merged_lists() -> None:
    """Applied items come in the applied order; each other one stays behind the one that it followed."""
    node = Node(list_type="map", keys=("name",))
    live = {"l": [{"name": n} for n in "abcd"]}
    config = {"l": [{"name": n} for n in "dxb"]}
    merged = apply._merged(live, config, Node(fields={"l": node}))
    assert [item["name"] for item in merged["l"]] == ["a", "d", "x", "b", "c"]


# --- schemas of custom resources ---


@pytest.mark.parametrize(
    ("rules", "value", "said"),
    [
        ({"type": "string", "pattern": "^a"}, "b", "should match '^a'"),
        ({"type": "string", "maxLength": 1}, "bb", "Too long"),
        ({"type": "integer"}, True, 'must be of type integer: "boolean"'),
        ({"type": "number", "maximum": 1}, 1.5, "less than or equal to 1"),
        ({"type": "array", "items": {"type": "string"}}, [1], "x[0] in body must be of type string"),
        ({"x-kubernetes-int-or-string": True}, [], "must be of type integer,string"),
        (
            {"type": "object", "additionalProperties": {"type": "string"}},
            {"k": 1},
            "x.k in body must be of type",
        ),
        (
            {"anyOf": [{"type": "integer"}, {"type": "boolean"}]},
            "s",
            "must validate at least one schema (anyOf)",
        ),
        ({"not": {"enum": ["s"]}}, "s", "must not validate"),
    ],
)
def test_schema_refusals(rules: dict[str, Any], value: Any, said: str) -> None:
    """Each rule of a structural schema refuses what breaks it, in the words of the real one."""
    found = structural.validate({"type": "object", "properties": {"x": rules}}, {"x": value})
    assert len(found) == 1
    assert said in found[0].message


def test_pruning_and_defaults() -> None:
    """Unknown fields go, defaults come, at every depth; what is to be preserved stays."""
    rules = {
        "type": "object",
        "properties": {
            "known": {"type": "object", "properties": {"d": {"type": "string", "default": "x"}}},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            "list": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}},
        },
    }
    obj = {"kind": "K", "known": {"u": 1}, "free": {"any": 1}, "list": [{"a": "1", "b": "2"}], "gone": 1}
    assert structural.prune_and_default(rules, obj) == {
        "kind": "K",
        "known": {"d": "x"},
        "free": {"any": 1},
        "list": [{"a": "1"}],
    }
    assert set(structural.unknown_fields(rules, obj)) == {"known.u", "list[0].b", "gone"}


# --- SPDY ---


def test_spdy_frames_in_pieces() -> None:
    """Frames are found however the bytes are cut, and headers decompress over a connection's life."""
    server, client = spdy.Codec(), spdy.Codec()
    data = (
        server.syn_reply(1, {"a": "b"})
        + server.syn_reply(3, {"a": "b"})
        + spdy.data_frame(1, b"xyz", end=True)
    )
    frames = list(itertools.chain.from_iterable(client.feed(data[n : n + 1]) for n in range(len(data))))
    assert [(f.kind, f.stream, f.headers, f.data, f.flags) for f in frames] == [
        (spdy.SYN_REPLY, 1, {"a": "b"}, b"", 0),
        (spdy.SYN_REPLY, 3, {"a": "b"}, b"", 0),
        (0, 1, {}, b"xyz", spdy.FIN),
    ]


def test_spdy_of_another_version_is_an_error() -> None:
    """What is no SPDY/3.1 ends the connection."""
    with pytest.raises(spdy.SpdyError):
        list(spdy.Codec().feed(struct.pack(">II", 1 << 31 | 2 << 16 | 1, 0)))
