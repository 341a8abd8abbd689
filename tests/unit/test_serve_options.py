"""Options, uploads, keys and errors of the endpoint."""

from __future__ import annotations

import copy
import hashlib
import re
import shutil
import socket
from pathlib import Path

import pytest
import yaml

pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")

import cutray
from cluster.hosts.ray_host import PORTS
from cutray.config import RemoverSettings, parse_settings
from cutray.errors import ChecksumError, ConfigError, InputError
from cutray.models.weights import resolve
from pipelines.bench.processes import free_port
from serve_apps.config_file import CONFIG, check_model, check_ports, load_config, shown_address, with_single_replicas
from serve_apps.reload import changed_parts
from serve_apps.remover.api_keys import ApiKeyAuth
from serve_apps.remover.errors import CODES, ApiError
from serve_apps.remover.schemas import CutOptions, ModelConfig
from serve_apps.remover.uploads import Upload, UploadedFile, parse_options, pick_background, pick_images

ROOT = Path(__file__).resolve().parents[2]


def refused(code: str, **values: str) -> str:
    """Demand that options are refused; returns the message."""
    with pytest.raises(ApiError) as caught:
        parse_options({name.replace("__", "-"): value for name, value in values.items()})
    assert caught.value.code == code
    return caught.value.message


def test_options_have_the_names_of_the_command_line() -> None:
    """Dashes and underscores both work, and text becomes what the settings hold."""
    assert parse_options(
        {"only-mask": "true", "bit_depth": "16", "threshold": "0.5", "crop": "1", "crop-margin": "5%"}
    ) == {
        "only_mask": True,
        "bit_depth": 16,
        "threshold": 0.5,
        "crop": True,
        "crop_margin": "5%",
    }
    assert set(CutOptions.model_fields) <= set(RemoverSettings.model_fields)


def test_unset_options_stay_unset() -> None:
    """An empty or transparent background is none."""
    assert parse_options({"background": "transparent", "threshold": ""}) == {"background": None, "threshold": None}


def test_unknown_option_gets_a_suggestion() -> None:
    """A misspelt name is refused, and the right one named."""
    assert "'format'" in refused("bad_option", formt="png")


@pytest.mark.parametrize("name", ["model", "engine", "device", "max_bytes", "max_megapixels", "threads", "offline"])
def test_clients_choose_no_model_and_no_limits(name: str) -> None:
    """What concerns the server cannot be set from outside."""
    refused("bad_option", **{name: "1"})


def test_background_is_never_a_path() -> None:
    """A file of the server is refused as a background even though it exists; colours are spelt out."""
    assert str(CONFIG) not in refused("bad_option", background=str(CONFIG))[:20]
    refused("bad_option", background="../../etc/passwd")
    assert parse_options({"background": "white"})["background"] == "255,255,255"
    assert parse_options({"background": "blur"})["background"] == "blur"


def test_long_values_are_not_echoed_whole() -> None:
    """A message stays short whatever came in."""
    assert len(refused("bad_option", format="x" * 100_000)) < 400


def test_photos_are_found_and_counted() -> None:
    """A raw body, the usual names and the form with brackets all count; one too many is refused."""
    upload = Upload([UploadedFile("", b"a"), UploadedFile("images[]", b"b")])
    assert [image.data for image in pick_images(upload, ("images",), most=2)] == [b"a", b"b"]
    with pytest.raises(ApiError, match="2 photos"):
        pick_images(upload, ("images",), most=1)
    with pytest.raises(ApiError, match="No photo"):
        pick_images(Upload([UploadedFile("other", b"c")]), ("image",), most=1)


def test_file_under_a_name_without_meaning_is_refused() -> None:
    """A picture sent as `background` would else be left out, and nobody would know why it does not show."""
    photo = UploadedFile("image", b"a")
    for name in ("background", "mask", "background_image[]"):
        with pytest.raises(ApiError, match="background_image") as caught:
            pick_images(Upload([photo, UploadedFile(name, b"c")]), ("image",), most=1)
        assert caught.value.code == "bad_option"
    fields = [photo, UploadedFile("background_image", b"c"), UploadedFile("mask", b"")]
    assert pick_images(Upload(fields), ("image",), most=1) == [photo]


@pytest.mark.parametrize("names", [("image", "file"), ("images", "image", "files", "file")])
def test_missing_photo_is_asked_for_by_the_documented_field(names: tuple[str, ...]) -> None:
    """The message names the field that the documentation names."""
    with pytest.raises(ApiError, match=f"as '{names[0]}'"):
        pick_images(Upload(), names, most=1)


def test_two_backgrounds_are_refused() -> None:
    """A colour beside a picture, and two pictures, are refused; one or none is fine."""
    picture = UploadedFile("background_image", b"x")
    assert pick_background(Upload([picture])) == b"x"
    assert pick_background(Upload([], {"background": "white"})) is None
    for upload in (Upload([picture], {"background": "white"}), Upload([picture, picture])):
        with pytest.raises(ApiError, match="background_image"):
            pick_background(upload)


def test_format_that_cannot_hold_the_result_is_refused_at_once() -> None:
    """JPEG is refused for a transparent cutout, and taken for a mask or on a background."""
    assert "JPEG" in refused("bad_option", format="jpeg")
    assert "16 bits" in refused("bad_option", format="webp", bit_depth="16")
    assert parse_options({"format": "jpeg", "only_mask": "true"})["format"] == "jpeg"
    assert parse_options({"format": "jpeg", "background": "white"})["format"] == "jpeg"
    assert parse_options({"format": "jpeg"}, has_backdrop=True)["format"] == "jpeg"


def test_every_input_error_has_a_status() -> None:
    """Each error that a photo can be to blame for leaves as a 4xx of its own code."""
    kinds = [InputError]
    for kind in kinds:
        kinds += kind.__subclasses__()
        assert 400 <= ApiError(kind.code).status < 500, kind
        assert ApiError(kind.code).code == kind.code


def test_unknown_code_says_nothing() -> None:
    """An error that was not foreseen leaves without its message."""
    error = ApiError("weights_unavailable", "/secret/path is missing")
    assert (error.code, error.status) == ("internal", 500)
    assert "secret" not in error.message


def test_table_of_errors_is_the_real_one() -> None:
    """The documentation lists every code with its status, and no other."""
    text = (ROOT / "docs" / "guides" / "serving.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (\d{3}) \|", text, flags=re.MULTILINE))
    assert rows == {code: str(status) for code, (status, _) in CODES.items()}


def test_keys_are_known_by_their_hash_alone() -> None:
    """The right key is named, a wrong or missing one is refused without detail, the limit is per key."""
    keys = ApiKeyAuth({"shop": hashlib.sha256(b"s3cret").hexdigest()}, requests_per_minute=2)
    assert keys.check("s3cret") == "shop"
    assert keys.check(None, "Bearer s3cret") == "shop"
    with pytest.raises(ApiError) as caught:
        keys.check("s3cret")
    assert caught.value.code == "rate_limited"
    for wrong in (None, "", "S3CRET", "ü"):
        with pytest.raises(ApiError) as caught:
            keys.check(wrong)
        assert caught.value.code == "unauthorized"
    assert ApiKeyAuth({}).check(None) == "-"


def test_key_in_the_clear_is_refused() -> None:
    """A configuration that holds the key itself instead of its hash is an error."""
    with pytest.raises(ConfigError, match="hash"):
        ApiKeyAuth({"shop": "s3cret"})


@pytest.mark.parametrize("name", ["remover.local.yaml", "remover.prod.yaml"])
def test_shipped_configurations_are_valid(name: str) -> None:
    """Both YAML files pass Serve's own check, and nothing in them is left to an unsafe default."""
    config = load_config(CONFIG.with_name(name), host=None, port=None, engine={})
    assert config["http_options"]["request_timeout_s"] > 0
    for deployment in config["applications"][0]["deployments"]:
        wanted = {"max_ongoing_requests", "max_queued_requests", "health_check_period_s", "graceful_shutdown_timeout_s"}
        assert wanted <= set(deployment)
    assert load_config(CONFIG, host=None, port=None, engine={})["http_options"]["host"] == "127.0.0.1"


def test_metrics_of_plain_hosts_are_where_the_endpoint_looks() -> None:
    """The port that start-head and start-worker give to Ray's agent is the one that /metrics reads."""
    config = load_config(ROOT / "cluster" / "hosts" / "remover.yaml", host=None, port=None, engine={})
    assert config["applications"][0]["args"]["metrics_port"] == PORTS["metrics-export-port"]


@pytest.mark.parametrize(
    "text", ["", "[]", "applications: [", "applications: []", "applications: [{}]", "\ufffe: \x00"]
)
def test_what_is_no_configuration_is_refused(tmp_path: Path, text: str) -> None:
    """Every file that is none is told in one line, and so is one that cannot be read."""
    path = tmp_path / "serve.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path, host=None, port=None, engine={})
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(tmp_path, host=None, port=None, engine={})


def test_model_beside_the_yaml_is_found_from_anywhere(tmp_path: Path) -> None:
    """A relative path of a model is relative to the YAML, since replicas have another working folder."""
    (tmp_path / "mine.onnx").touch()
    config = yaml.safe_load(CONFIG.read_text())
    config["applications"][0]["deployments"][2]["user_config"] = {"model": "mine.onnx"}
    path = tmp_path / "serve.yaml"
    path.write_text(yaml.safe_dump(config))
    loaded = load_config(path, host=None, port=None, engine={})
    assert loaded["applications"][0]["deployments"][2]["user_config"]["model"] == str(tmp_path / "mine.onnx")


def test_keys_without_a_value_are_empty(tmp_path: Path) -> None:
    """A section in which everything is commented out is as good as none."""
    config = yaml.safe_load(CONFIG.read_text())
    (application,) = config["applications"]
    config["http_options"] = application["args"] = application["deployments"][2]["user_config"] = None
    path = tmp_path / "serve.yaml"
    path.write_text(yaml.safe_dump(config))
    loaded = load_config(path, host=None, port=9000, engine={"threads": 2})
    assert loaded["http_options"] == {"host": "127.0.0.1", "port": 9000}
    assert loaded["applications"][0]["args"] == {"engine": {"threads": 2}}
    application["args"] = {"engine": None, "limits": None}
    path.write_text(yaml.safe_dump(config))
    loaded = load_config(path, host=None, port=None, engine={})
    assert loaded["applications"][0]["args"] == {"engine": {}, "limits": {}}
    assert loaded["http_options"] == {"host": "127.0.0.1", "port": 8000}


@pytest.mark.parametrize("section", ["http_options", "args", "user_config"])
def test_sections_of_another_kind_are_refused(tmp_path: Path, section: str) -> None:
    """A list or a number where names and values belong is told in one line."""
    config = yaml.safe_load(CONFIG.read_text())
    (application,) = config["applications"]
    places = {"http_options": config, "args": application, "user_config": application["deployments"][2]}
    places[section][section] = 7
    path = tmp_path / "serve.yaml"
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(ConfigError, match="no configuration"):
        load_config(path, host=None, port=None, engine={})


def test_files_of_an_ensemble_are_named_by_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replicas have another working folder than the terminal."""
    monkeypatch.chdir(tmp_path)
    loaded = load_config(CONFIG, host=None, port=None, engine={"model": "mine.onnx+u2net"})
    model = loaded["applications"][0]["deployments"][2]["user_config"]["model"]
    assert model == f"{tmp_path / 'mine.onnx'}+u2net"


def test_changed_parts_are_named() -> None:
    """What a reload says has changed: deployments, single limits, keys of the file."""
    old = load_config(CONFIG, host=None, port=None, engine={})
    assert changed_parts(old, copy.deepcopy(old)) == []
    new = load_config(CONFIG, host=None, port=9000, engine={})
    new["applications"][0]["deployments"][1]["num_replicas"] = 7
    new["applications"][0]["args"]["limits"]["deadline_s"] = 7
    assert changed_parts(old, new) == ["Cutter", "http_options", "limits.deadline_s"]


def test_model_that_was_replaced_under_its_name_has_changed(tmp_path: Path) -> None:
    """A reload sees other weights behind the same path, and a replica refuses weights that are not those."""
    file, package = tmp_path / "mine.onnx", Path(cutray.__file__).parent
    configs = []
    for source in (package / "models" / "u2netp-distilled.onnx", package / "matting" / "refiner.onnx"):
        shutil.copyfile(source, file)
        configs.append(load_config(CONFIG, host=None, port=None, engine={"model": str(file)}))
        check_model(configs[-1])
    assert changed_parts(*configs) == ["Segmenter"]
    old, new = (parse_settings(ModelConfig, one["applications"][0]["deployments"][2]["user_config"]) for one in configs)
    new.check(resolve(str(file)))
    with pytest.raises(ChecksumError, match=old.sha256):
        old.check(resolve(str(file)))
    file.with_suffix(".toml").write_text("input_size_px = 256")
    configs.append(load_config(CONFIG, host=None, port=None, engine={"model": str(file)}))
    check_model(configs[-1])
    assert changed_parts(*configs[1:]) == ["Segmenter"]
    new.check(resolve(str(file)))  # a hash of the file alone, as a person would write it, still names it


def test_misspelt_configuration_is_refused(tmp_path: Path) -> None:
    """Serve would overlook an unknown key of a deployment; we do not."""
    config = yaml.safe_load(CONFIG.read_text())
    config["applications"][0]["deployments"][0]["num_replica"] = 2
    path = tmp_path / "typo.yaml"
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(ConfigError, match="num_replica"):
        load_config(path, host=None, port=None, engine={})


def test_all_addresses_of_both_kinds_can_be_listened_on() -> None:
    """IPv6 is checked as such, and shown in brackets; "all" is shown as this machine."""
    addresses = {host: shown_address({"host": host, "port": 8}) for host in ("0.0.0.0", "::", "::1", "10.0.0.1")}
    assert addresses == {
        "0.0.0.0": "http://127.0.0.1:8",
        "::": "http://[::1]:8",
        "::1": "http://[::1]:8",
        "10.0.0.1": "http://10.0.0.1:8",
    }
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    with socket.create_server(("::", 0), family=socket.AF_INET6) as taken:
        config = load_config(CONFIG, host="::", port=taken.getsockname()[1], engine={}, metrics_port=free_port())
        with pytest.raises(ConfigError, match="in use"):
            check_ports(config)
    check_ports(config)


def test_start_is_with_one_of_each() -> None:
    """The first replicas are one of each deployment, nothing else differs, and the config itself stays whole."""
    config = load_config(CONFIG, host=None, port=None, engine={}, metrics_port=20001)
    small, whole = (entry["applications"][0]["deployments"] for entry in (with_single_replicas(config), config))
    assert [entry["num_replicas"] for entry in small] == [1, 1, 1]
    assert max(entry["num_replicas"] for entry in whole) > 1
    assert [entry | {"num_replicas": 1} for entry in whole] == small
    assert config["applications"][0]["args"]["metrics_port"] == 20001
    whole[1]["num_replicas"] = "auto"
    assert with_single_replicas(config)["applications"][0]["deployments"][1]["num_replicas"] == "auto"


def test_templates_are_named_and_never_files() -> None:
    """A template arrives as its values, below what is given; a path of the server's is refused, and a typo told."""
    options = parse_options({"template": "square-white", "margin": "9%"})
    assert options == {"size": "2000x2000", "margin": "9%", "background": "white"}
    without = parse_options({"template": "sticker", "shadow": "none"})
    assert without["shadow"] == "none" and not any(key.startswith("shadow_") for key in without)
    for name, words in (("own.toml:shop", "allowed is one of square-white"), ("stroy", "did you mean 'story'")):
        with pytest.raises(ApiError, match=words):
            parse_options({"template": name})


def test_fills_are_colours_and_never_files() -> None:
    """Gradients and patterns are backgrounds here too; a wrong one is refused before any photo."""
    assert parse_options({"background": "gradient:white-#ddd:45"})["background"] == "gradient:white-#ddd:45"
    for wrong in ("gradient:white", "gradient:/etc/passwd-white", "no-picture.jpg"):
        with pytest.raises(ApiError, match="background = "):
            parse_options({"background": wrong})
