"""The looks of the page: system fonts, light and dark, phone to desk."""

CSS = """
:root {
  color-scheme: light dark;
  --font: system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans',
    'DejaVu Sans', sans-serif;
  --mono: ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono',
    monospace;
  --paper: #ffffff; --panel: #f6f7f9; --line: #d9dde3;
  --ink: #1b1f24; --muted: #59636e; --grid: #e3e6ea;
  --bonafide: #1f6fb2; --spoof: #c8551b; --note: #fff4d6; --edge: #b98900;
  --series1: #0b746f; --series2: #8a4fa8; --series3: #8f6a00;
  --series4: #b3365b;
  /* Many classes side by side: Paul Tol's "muted", for all kinds of sight. */
  --class1: #cc6677; --class2: #332288; --class3: #b39b2e; --class4: #117733;
  --class5: #56b1d8; --class6: #882255; --class7: #44aa99; --class8: #7d7d1f;
  --class9: #aa4499;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --panel: #1d2125; --line: #363c43;
    --ink: #e8eaed; --muted: #a3acb5; --grid: #2d3238;
    --bonafide: #6cb2ee; --spoof: #f0955c; --note: #3a3115; --edge: #d9ae3c;
    --series1: #4cc4bd; --series2: #cf9be6; --series3: #d9b44a;
    --series4: #f08aa8;
    --class1: #ee8866; --class2: #77aadd; --class3: #eedd88;
    --class4: #44bb99; --class5: #99ddff; --class6: #ff9db0;
    --class7: #bbcc33; --class8: #aaaa00; --class9: #d3a6e6;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 70rem; padding: 1.5rem 1rem 4rem;
  background: var(--paper); color: var(--ink);
  font: 16px/1.55 var(--font);
}
header { border-bottom: 1px solid var(--line); padding-bottom: 1.25rem; }
h1 { font-size: 1rem; font-weight: 600; color: var(--muted); margin: 0; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .75rem; }
p { max-width: 46rem; margin: .5rem 0; overflow-wrap: anywhere; }
.headline { font-size: clamp(1.9rem, 6vw, 3rem); font-weight: 700;
  line-height: 1.15; margin: .4rem 0; font-variant-numeric: tabular-nums; }
.headline small { font-size: .45em; font-weight: 500; color: var(--muted);
  display: inline-block; }
.note { background: var(--note); border-left: 4px solid var(--edge);
  padding: .6rem .9rem; margin: 1rem 0; max-width: none; }
.grid { display: grid; gap: 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
.small { grid-template-columns: repeat(auto-fit,
  minmax(min(100%, 19rem), 1fr)); }
figure { margin: 0; min-width: 0; }
figure svg { width: 100%; max-width: 36rem; height: auto; display: block; }
.wide figure svg { max-width: 62rem; }
figcaption { color: var(--muted); font-size: .88rem; max-width: 36rem; }
.scroll { overflow-x: auto; margin: .75rem 0; max-width: 100%; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums;
  font-size: .95rem; }
caption { text-align: left; color: var(--muted); font-size: .88rem;
  padding-bottom: .3rem; }
th, td { padding: .3rem 1.1rem .3rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); font-weight: 400; }
thead th { color: var(--muted); font-size: .88rem; }
.numbers td { text-align: right; white-space: nowrap; }
.numbers thead th:not(:first-child) { text-align: right; }
.numbers td.words { text-align: left; }
.numbers thead th:has(button) { vertical-align: bottom; }
.heat td { padding: .3rem .6rem; border: 1px solid var(--paper); }
.heat thead th:not(:first-child) { padding: .3rem .6rem; }
th button { all: unset; cursor: pointer; color: inherit; }
th button:hover, th button:focus-visible { text-decoration: underline; }
th[aria-sort=ascending] button::after { content: ' \\2191'; }
th[aria-sort=descending] button::after { content: ' \\2193'; }
input { font: inherit; color: inherit; background: var(--panel);
  border: 1px solid var(--line); border-radius: 6px; padding: .2rem .5rem;
  max-width: 100%; }
pre { background: var(--panel); border: 1px solid var(--line);
  border-radius: 6px; padding: .75rem 1rem; overflow-x: auto;
  font: .85rem/1.5 var(--mono); white-space: pre-wrap;
  overflow-wrap: anywhere; }
summary { cursor: pointer; margin: .75rem 0; }
footer { margin-top: 3rem; color: var(--muted); font-size: .88rem; }
@media print { body { max-width: none; } figure { break-inside: avoid; } }
"""
