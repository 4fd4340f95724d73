"""Pictures as inputs, and explanations as pictures."""

import html.parser
import io

import numpy as np
import pytest
import relc
from conftest import DEMO, PICTURES


def check_same(explainer, one, other, **options):
    """Two forms of an input have one explanation."""
    np.testing.assert_array_equal(explainer(one, **options).relevance, explainer(other, **options).relevance)


def demo_keys():
    mean, std = [0.4975, 0.4975, 0.5004], [0.2848, 0.2854, 0.285]
    return {"mean": mean, "std": std}


def test_pictures_of_pil(explainer):
    image = pytest.importorskip("PIL.Image")
    picture = image.open(PICTURES[3])
    check_same(explainer, picture, PICTURES[3])
    check_same(explainer, picture, str(PICTURES[3]))
    check_same(explainer, [picture, image.open(PICTURES[4])], PICTURES[3:5])
    bytes_ = np.asarray(picture.convert("RGB"), np.float32)
    keys = demo_keys()
    array = ((bytes_ / 255 - keys["mean"]) / keys["std"]).transpose(2, 0, 1)
    expected = explainer(PICTURES[3]).relevance
    np.testing.assert_allclose(explainer(array).relevance, expected, atol=1e-4 * np.abs(expected).max())


def test_a_picture_lies_as_its_exif_says(explainer, tmp_path):
    image = pytest.importorskip("PIL.Image")
    exif = image.Exif()
    exif[0x0112] = 6
    file = tmp_path / "turned.png"
    image.open(PICTURES[3]).convert("RGB").save(file, exif=exif)
    check_same(explainer, image.open(file), file)


def test_forms_of_a_preprocessing(explainer, model):
    expected = explainer(PICTURES[0]).relevance
    plain = relc.compile(model)
    for given in (
        DEMO / "preprocess.toml",
        relc.Preprocess(DEMO / "preprocess.toml"),
        relc.Preprocess(**demo_keys()),
        {name: np.array(values) for name, values in demo_keys().items()},
    ):
        np.testing.assert_array_equal(plain(PICTURES[0], preprocess=given).relevance, expected)
    assert "0.4975" in repr(explainer.preprocess)


class Tags(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)


def test_a_notebook_shows_maps_and_numbers(explainer):
    text = explainer(PICTURES[:3])._repr_html_()
    tags = Tags(text).tags
    assert tags.count("img") == 3 and tags.count("tr") == 4 and "script" not in tags
    assert "data:image/png;base64,iVBOR" in text and "two_level" in text
    assert "of 12 samples" in explainer(PICTURES[:12])._repr_html_()


def test_names_are_escaped(model, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('name = "<script>alert(1)</script>"\ndescription = "x"\nextends = "paper"\n')
    text = relc.compile(model, file)(np.ones((1, 3, 64, 64)))._repr_html_()
    assert "script" not in Tags(text).tags and "&lt;script&gt;" in text


def test_maps_as_pictures(explainer, tmp_path):
    explanation = explainer(PICTURES[0])
    png = explanation.heat_png()
    assert png.startswith(b"\x89PNG")
    explanation.save(tmp_path / "heat.png")
    assert (tmp_path / "heat.png").read_bytes() == png
    image = pytest.importorskip("PIL.Image")
    assert image.open(io.BytesIO(png)).size == (256, 256)
    assert image.open(io.BytesIO(explanation.heat_png(colormap="hot", min_side=1))).size == (64, 64)
    with pytest.raises(relc.RelcError, match="colour map"):
        explanation.heat_png(colormap="jet")
    with pytest.raises(relc.RelcError, match="got sample 1, expected 0 to 0"):
        explanation.heat_png(1)


def test_saved_arrays(explainer, tmp_path):
    explanation = explainer(PICTURES[:2])
    explanation.save(tmp_path / "all.npz")
    with np.load(tmp_path / "all.npz") as saved:
        assert sorted(saved) == ["conservation_error", "logits", "map", "probabilities", "relevance", "targets"]
        np.testing.assert_array_equal(saved["map"], explanation.map)
    explanation.save(tmp_path / "r.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "r.npy"), explanation.relevance)
    for name, said in (("heat.png", "got 2 samples"), ("heat.jpg", "expected one that ends in")):
        with pytest.raises(relc.RelcError, match=said):
            explanation.save(tmp_path / name)


def test_show(explainer):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    explanation = explainer(PICTURES[:2])
    axes = relc.show(explanation, 1)
    np.testing.assert_array_equal(axes.images[0].get_array(), explanation.map[1])
    assert axes.images[0].get_clim()[0] == -axes.images[0].get_clim()[1]
    assert axes.get_title().startswith(f"output {explanation.targets[1]}, probability")
    over = relc.show(explanation, picture=np.zeros((64, 64, 3)), ax=plt.figure().add_subplot(), title="mine")
    assert len(over.images) == 2 and over.get_title() == "mine"
    with pytest.raises(relc.RelcError, match="got sample 2, expected 0 to 1"):
        relc.show(explanation, 2)
    plt.close("all")
