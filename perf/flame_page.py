# SPDX-License-Identifier: Apache-2.0
"""The page of a flame graph: a tree of [name, kind, value, children] drawn by a little JavaScript, no network."""

import html
import json

KINDS = {
    "erlang": ("Erlang", "#c13b6f"),
    "python": ("Python", "#2f77bd"),
    "nif": ("C of the NIF", "#e08a1e"),
    "worker": ("C of the worker", "#4e9a3a"),
    "cpython": ("CPython", "#8fbbe0"),
    "beam": ("C of the VM", "#dfa3ba"),
    "kernel": ("Linux", "#a8a8a8"),
    "library": ("libraries", "#d8cfae"),
    "thread": ("thread", "#d9d9d9"),
}

STYLE = """
body { font: 14px system-ui, sans-serif; margin: 1.2em; color: #222; background: #fff }
#graph { position: relative; font: 12px ui-monospace, monospace }
#graph div { position: absolute; height: 17px; line-height: 17px; overflow: hidden; white-space: nowrap;
  box-sizing: border-box; border-right: 1px solid #fff; padding-left: 3px; cursor: pointer; color: #111 }
#graph div.dim { opacity: .45 } #graph div.hit { outline: 2px solid #000; outline-offset: -2px }
#info { min-height: 1.4em; margin: .5em 0; font-family: ui-monospace, monospace; font-size: 12px }
.key span { display: inline-block; margin-right: 1.2em } .key i { display: inline-block; width: 12px; height: 12px;
  margin-right: 4px; vertical-align: -1px }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1em 0 }
th, td { padding: .2em .8em; text-align: right; border-bottom: 1px solid #e5e5e5 }
th:first-child, td:first-child, td:last-child, th:last-child { text-align: left }
"""

SCRIPT = """
const graph = document.getElementById('graph'), info = document.getElementById('info');
const ROW = 18;
let zoom = [DATA], hits = null;
function draw() {
  graph.textContent = '';
  const width = graph.clientWidth, top = zoom[zoom.length - 1];
  let depth = 0;
  function box(node, x, w, y, isDim) {
    if (w < 0.4) return;
    depth = Math.max(depth, y);
    const div = document.createElement('div');
    div.style.left = x + 'px'; div.style.top = y * ROW + 'px'; div.style.width = w + 'px';
    div.style.background = COLOURS[node[1]];
    if (isDim) div.className = 'dim';
    if (hits && hits.test(node[0])) div.className += ' hit';
    if (w > 24) div.textContent = node[0];
    const share = (100 * node[2] / DATA[2]).toFixed(2) + ' % of all samples (' + node[2] + ')';
    div.title = node[0] + '\\n' + KIND_NAMES[node[1]] + ', ' + share;
    div.onmouseover = () => { info.textContent = node[0] + ' - ' + KIND_NAMES[node[1]] + ', ' + share; };
    div.onclick = () => {
      const at = zoom.indexOf(node);
      zoom = at >= 0 ? zoom.slice(0, at + 1) : zoom.concat(path(top, node).slice(1));
      draw();
    };
    graph.appendChild(div);
  }
  function tree(node, x, w, y) {
    box(node, x, w, y, false);
    let at = x;
    for (const child of node[3]) {
      const cw = w * child[2] / node[2];
      if (cw >= 0.4) tree(child, at, cw, y + 1);
      at += cw;
    }
  }
  zoom.slice(0, -1).forEach((node, i) => box(node, 0, width, i, true));
  tree(top, 0, width, zoom.length - 1);
  graph.style.height = (depth + 2) * ROW + 'px';
}
function path(from, to) {
  if (from === to) return [from];
  for (const child of from[3]) { const p = path(child, to); if (p.length) return [from].concat(p); }
  return [];
}
document.getElementById('find').oninput = event => {
  try { hits = event.target.value ? new RegExp(event.target.value, 'i') : null; } catch (e) { hits = null; }
  draw();
};
document.getElementById('all').onclick = () => { zoom = [DATA]; draw(); };
window.onresize = draw;
draw();
"""


def _table(rows):
    body = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in rows[1:])
    heads = "".join(f"<th>{html.escape(c)}</th>" for c in rows[0])
    return f"<table><tr>{heads}</tr>{body}</table>"


def page(tree, title, note, rows):
    names = {kind: name for kind, (name, _) in KINDS.items()}
    colours = {kind: colour for kind, (_, colour) in KINDS.items()}
    key = "".join(f'<span><i style="background:{c}"></i>{html.escape(n)}</span>' for n, c in KINDS.values())
    data = json.dumps(tree, separators=(",", ":")).replace("</", "<\\/")
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>erlang_python: flame graph</title>'
        f"<style>{STYLE}</style><h1>{html.escape(title)}</h1><p>{html.escape(note)}</p>"
        f'<p class="key">{key}</p><p><input id="find" placeholder="find a name (regular expression)" size="34"> '
        '<button id="all">whole graph</button> A click on a frame zooms in, one on a frame above it out.</p>'
        f'<div id="info"></div><div id="graph"></div><h2>What a call spends its time on</h2>{_table(rows)}'
        f"<script>const DATA = {data}; const COLOURS = {json.dumps(colours)}; "
        f"const KIND_NAMES = {json.dumps(names)};{SCRIPT}</script></html>\n"
    )
