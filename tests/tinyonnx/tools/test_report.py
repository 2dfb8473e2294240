"""The page, in a real browser."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

from audiotag.models.mobilenet import random_graph
from tests.tinyonnx.commands.test_commands import call, write
from tinyonnx import save_model
from tinyonnx.tools._images import shrink
from tinyonnx.tools._layout import layout


def drawn(browser: Any) -> None:
    """Wait for the page's next frame, before which it draws the boxes that come into view."""
    browser.execute_async_script("requestAnimationFrame(() => arguments[0]())")


def look(browser: Any, page: Path) -> None:
    browser.get(page.as_uri())
    drawn(browser)
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def rows(browser: Any) -> list[str]:
    """Return names of the visible rows in their order."""
    script = "return [...document.querySelectorAll('tbody tr')].filter(r => !r.hidden).map(r => r.cells[2].textContent)"
    return list(browser.execute_script(script))


def details(browser: Any) -> str:
    return str(browser.execute_script("return document.getElementById('details').innerText"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write(tmp_path / "net.onnx")


def test_a_trace_is_clicked_filtered_sorted_and_walked_through(
    browser: Any, model: Path, tmp_path: Path, capsys: Any
) -> None:
    page = tmp_path / "trace.html"
    call(capsys, "trace", model, "--dim", "t=10", "--html", page)
    look(browser, page)
    assert rows(browser) == ["conv", "norm", "active", "pooled", "y"]
    browser.execute_script("document.querySelectorAll('tbody tr')[2].click()")
    text = details(browser)
    assert "Relu" in text
    assert "histogram" in text
    assert browser.execute_script("return document.querySelectorAll('#details img').length") == 7  # mean, 6 channels
    assert browser.execute_script("return [...document.images].every(i => i.complete && i.naturalWidth > 0)")
    # a click on a box of the graph
    browser.find_elements("css selector", "g.node")[3].click()
    assert "GlobalAveragePool" in details(browser)
    body = browser.find_element("tag name", "body")
    body.send_keys("/")
    field = browser.switch_to.active_element
    field.send_keys("norm")
    assert rows(browser) == ["norm"]
    assert len(browser.find_elements("css selector", "g.node.faded")) == 4
    field.send_keys("\ue00c")  # Escape
    assert len(rows(browser)) == 5
    titles = [button.text for button in browser.find_elements("css selector", "thead button")]
    browser.find_elements("css selector", "thead button")[titles.index("max")].click()
    cells = "return [...document.querySelectorAll('tbody tr')].map(r => Number(r.cells[arguments[0]].textContent))"
    maxima = browser.execute_script(cells, titles.index("max"))
    assert maxima == sorted(maxima, reverse=True)
    assert len(set(maxima)) > 2
    browser.find_element("tag name", "body").send_keys("\ue011")  # Home
    selected = browser.execute_script("return document.querySelector('tr[aria-selected=true]').cells[2].textContent")
    assert selected == rows(browser)[0]
    assert len(browser.get_screenshot_as_png()) > 10_000


def sides(browser: Any) -> list[dict[str, Any]]:
    """Return the two sides of the chosen layer: titles, ranges, ends of the histograms, and number of drawings."""
    script = """
        return [...document.querySelectorAll("#details .sides section")].map((side) => ({
            title: side.querySelector("h2").textContent,
            ranges: [...side.querySelectorAll("dd")].map((each) => each.textContent),
            ends: [...[...side.querySelectorAll(".across")].pop().children].map((each) => each.textContent),
            drawn: side.querySelectorAll(".axes").length,
        }))
    """
    return list(browser.execute_script(script))


def test_differences_and_times(browser: Any, model: Path, tmp_path: Path, capsys: Any) -> None:
    other, page = write(tmp_path / "other.onnx", change=0.01), tmp_path / "page.html"
    call(capsys, "compare", model, "--against", other, "--dim", "t=10", "--html", page, code=1)
    look(browser, page)
    assert "active" in details(browser)  # the first that differs is chosen
    assert len(browser.find_elements("css selector", "g.node.over")) >= 1
    ours, theirs = sides(browser)
    assert ours["title"] == "this side"
    assert theirs["title"] == "other side"
    assert ours["ranges"] != theirs["ranges"]
    assert ours["ends"] == theirs["ends"]  # of the histograms
    assert (ours["drawn"], theirs["drawn"]) == (2, 2)
    call(capsys, "profile", model, "--dim", "t=10", "--html", page, "--repeats", "2")
    look(browser, page)
    assert re.search(r"\d (µs|ms)\b", details(browser))
    call(capsys, "inspect", model, "--html", page)
    look(browser, page)
    assert len(rows(browser)) == 12
    call(capsys, "inspect", model, "--dim", "t=10", "--pass", "fold_batchnorm", "--html", page)
    look(browser, page)
    assert "fold_batchnorm: BatchNormalization is folded into the weights of conv" in details(browser)


def chosen(browser: Any) -> str:
    script = "return document.querySelector('tr[aria-selected=true]').cells[2].textContent"
    return str(browser.execute_script(script))


def test_graph_chart_table_and_details_follow_each_other(
    browser: Any, model: Path, tmp_path: Path, capsys: Any
) -> None:
    other, page = write(tmp_path / "other.onnx", change=0.01), tmp_path / "page.html"
    call(capsys, "compare", model, "--against", other, "--unoptimized", "--dim", "t=10", "--html", page, code=1)
    look(browser, page)
    verdict = browser.find_element("id", "verdict")
    assert "FIRST OVER: conv" in verdict.text
    assert verdict.get_attribute("class") == "failed"
    assert chosen(browser) == "conv"  # the first that differs
    assert len(browser.find_elements("css selector", "#bars rect.measure.over")) == 5
    assert browser.find_elements("css selector", "#bars line.limit")
    body = browser.find_element("tag name", "body")
    body.send_keys("n")
    assert chosen(browser) == "norm"
    browser.find_element("css selector", "#details .link").click()  # what made its input
    assert chosen(browser) == "conv"
    drawn(browser)
    assert len(browser.find_elements("css selector", "g.node.selected")) == 1
    from selenium.webdriver import ActionChains

    bars = browser.find_element("css selector", "#bars svg")
    ActionChains(browser).move_to_element_with_offset(bars, bars.size["width"] // 2 - 3, 0).click().perform()
    assert chosen(browser) == "y"
    before = browser.execute_script("return view.getAttribute('transform')")
    body.send_keys("+")
    ActionChains(browser).key_down("\ue008").send_keys("\ue015").key_up("\ue008").perform()  # Shift + down
    assert browser.execute_script("return view.getAttribute('transform')") != before
    assert chosen(browser) == "y"
    titles = [option.text for option in browser.find_elements("css selector", "#measure option")]
    assert titles == ["relative error (logarithmic)", "multiplications", "bytes of the result", "parameters"]


def test_the_page_asks_for_nothing_and_knows_dark(browser: Any, model: Path, tmp_path: Path, capsys: Any) -> None:
    page = tmp_path / "page.html"
    call(capsys, "profile", model, "--dim", "t=10", "--html", page, "--repeats", "2")
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    colour = "return getComputedStyle(document.body).backgroundColor"
    look(browser, page)
    light = browser.execute_script(colour)
    assert browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)") == []
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    try:
        assert browser.execute_script(colour) != light
        browser.find_element("id", "theme").click()
        assert browser.execute_script(colour) == light
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_a_body_hangs_on_its_loop(browser: Any, tmp_path: Path, capsys: Any) -> None:
    proto = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 17]> net (float[2] x, int64 n, bool go) => (float[2] y, string s) {
            y = Loop (n, go, x) <body = once (int64 i, bool more, float[2] a) => (bool again, float[2] b) {
                again = Identity (more) b = Add (a, a)
            }>
            s = Constant <value_string = "text"> ()
        }
    """)
    onnx.save(proto, tmp_path / "m.onnx")
    call(capsys, "trace", tmp_path / "m.onnx", "--html", tmp_path / "page.html")
    look(browser, tmp_path / "page.html")
    assert {"y", "y/body/again", "y/body/b"} <= set(rows(browser))
    assert browser.execute_script("return data.inside.length") == 2


def test_names_from_a_model_stay_text(browser: Any, tmp_path: Path, capsys: Any) -> None:
    name = "</script><img src=x onerror=document.title='owned'>"
    node = onnx.helper.make_node("Relu", ["x"], ["y"], name=name)
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph([node], "g", [value("x", 1, [2])], [value("y", 1, [2])])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]), tmp_path / "m.onnx")
    call(capsys, "trace", tmp_path / "m.onnx", "--html", tmp_path / "page.html")
    look(browser, tmp_path / "page.html")
    assert rows(browser) == [name]
    assert browser.title == "trace of m.onnx"


def test_a_large_model_opens_and_is_small(browser: Any, tmp_path: Path, capsys: Any) -> None:
    save_model(random_graph("mn10", seed=0), tmp_path / "mn10.onnx")
    page = tmp_path / "page.html"
    call(capsys, "trace", tmp_path / "mn10.onnx", "--input", "melspec=shape:1,1,128,1000", "--html", page)
    assert page.stat().st_size < 5_000_000
    look(browser, page)
    assert len(rows(browser)) > 100


def test_layout_puts_nodes_below_what_they_read() -> None:
    edges = [(0, 1), (0, 2), (1, 3), (2, 3), (0, 4), (3, 4)]
    places, routes = layout(5, edges)
    assert [row for _, row in places] == [0, 1, 1, 2, 3]
    assert len(set(places)) == 5
    assert abs(places[1][0] - places[2][0]) >= 1
    assert [[row for _, row in route] for route in routes] == [[], [], [], [], [1, 2], []]
    assert layout(0, []) == ([], [])


def test_layout_keeps_a_chain_straight_and_leads_its_shortcuts_around() -> None:
    chain = [(i, i + 1) for i in range(20)]
    shortcuts = [(i, i + 4) for i in range(0, 20, 4)]
    places, routes = layout(21, chain + shortcuts)
    assert {column for column, _ in places} == {0}
    passed = [place for route in routes for place in route]
    assert len(passed) == 3 * len(shortcuts)
    assert all(abs(column) > 0.6 for column, _ in passed)  # beside the box of half a column
    # a constant that everything reads has no route of its own, and stands above its first reader
    places, routes = layout(102, [(0, i) for i in range(2, 102)] + [(i, i + 1) for i in range(1, 101)])
    assert max(map(len, routes)) < 50
    assert places[0][1] == places[2][1] - 1


def test_shrinking_keeps_the_mean() -> None:
    values = np.arange(24.0).reshape(4, 6)
    np.testing.assert_allclose(shrink(values, 2, 3), values.reshape(2, 2, 3, 2).mean(axis=(1, 3)))
    np.testing.assert_array_equal(shrink(values, 10, 10), values)
    assert shrink(np.ones((7, 5)), 3, 2).tolist() == [[1, 1], [1, 1], [1, 1]]
