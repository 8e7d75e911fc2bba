"""The style of the report's page."""

from __future__ import annotations

from typing import Final

# the colours of lines: Okabe and Ito's, which colour-blind readers can tell apart
STYLE: Final = """
:root{color-scheme:light dark;--ink:#222;--pale:#5f5f5f;--faint:#e4e4e4;--paper:#fff;--card:#fafafa;
--good:#00694e;--bad:#b3261e;--part:#8a5a00;--c0:#0072b2;--c1:#d55e00;--c2:#009e73;--c3:#cc79a7;
--c4:#a57c00;--c5:#56b4e9;--c6:#6b4fa0;--c7:#7f7f7f}
@media (prefers-color-scheme:dark){:root{--ink:#e8e8e8;--pale:#a8a8a8;--faint:#3a3a3a;
--paper:#161616;--card:#1f1f1f;--good:#4fd1a5;--bad:#ff8a80;--part:#ffc266;--c0:#5ab4ff;--c1:#ff8a4c;--c2:#3ddc97;
--c3:#e79fc6;--c4:#d9b13b;--c5:#8fd3ff;--c6:#b39ddb;--c7:#b5b5b5}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1500px;margin:0 auto;padding:24px}
h1{font-size:1.5rem;margin:0 0 8px}h2{font-size:1.15rem;margin:32px 0 8px}
p{margin:0 0 8px}pre{background:var(--card);padding:10px 12px;border-radius:6px;overflow-x:auto;
white-space:pre-wrap;overflow-wrap:anywhere}
.conclusion{font-size:1.15rem;font-weight:600;padding:10px 14px;border-left:5px solid;
border-radius:4px;background:var(--card)}
.kept{color:var(--good)}.failed{color:var(--bad)}.partial{color:var(--part)}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,560px),1fr));gap:16px;
margin-top:20px}
figure{margin:0;padding:12px;background:var(--card);border-radius:8px}
figcaption{font-weight:600;margin-bottom:4px}
svg{width:100%;height:auto;display:block;font:11px system-ui,sans-serif}
svg text{fill:var(--pale)}svg .x{text-anchor:middle}svg .y,svg .name{text-anchor:end}
svg .label{font-size:11px}svg .value,svg .name{fill:var(--ink)}
.grid{stroke:var(--faint)}path.line{fill:none;stroke-width:1.8}
path.floor{fill:none;stroke-width:1.6;stroke-dasharray:5 4}
.bar{fill:var(--c0)}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:4px 16px;
margin:6px 0 0;padding:0;font-size:13px}
.legend i{display:inline-block;width:22px;border-top:3px solid;
margin-right:6px;vertical-align:middle}
.legend i.floor{border-top-style:dashed}
.none{color:var(--pale)}
.scroll{overflow-x:auto}table{border-collapse:collapse;min-width:min(100%,520px)}
td,th{padding:3px 14px 3px 0;border-bottom:1px solid var(--faint);text-align:right;
font-variant-numeric:tabular-nums}
th[scope=row],th[scope=colgroup],th[scope=col]:first-child{text-align:left}
th[scope=row]{font-weight:400}
th[scope=colgroup]{padding-top:16px;color:var(--pale)}
dt{font-weight:600}dd{margin:0 0 8px}
@media print{main{padding:0}figure{break-inside:avoid}}
""".strip()
