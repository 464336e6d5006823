/// Style sheet and script of the page.
#pragma once
#include <qlib/config.hpp>

#include <string_view>

namespace qlib::inline v0::report_parts {

inline constexpr std::string_view page_style = R"css(
:root{color-scheme:light dark;--page:#f6f6f4;--card:#fff;--ink:#16161a;--soft:#5c5c66;--line:#dededa;--edge:#a5a5a0;--muted:#b4b4ae;--strong:#16161a;
--band:#eda10040;--c1:#2a78d6;--c2:#12a06f;--c3:#d98f00;--c4:#4a3aa7;--c5:#e34948;--c6:#008a9b;--c7:#d0579a;--c8:#6d7a1c}
@media (prefers-color-scheme:dark){:root{--page:#131316;--card:#1d1d21;--ink:#ececf0;--soft:#a4a4b0;--line:#34343b;--edge:#6a6a74;--muted:#63636d;
--strong:#fff;--band:#eda10038;--c1:#5a9dee;--c2:#2cb684;--c3:#e0a52e;--c4:#9a8cf0;--c5:#f0706f;--c6:#2bb3c4;--c7:#e57fb5;--c8:#a5b341}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:940px;margin:0 auto;padding:20px 16px 48px}
h1{font-size:24px;line-height:1.2;margin:8px 0 2px;overflow-wrap:anywhere}
h2{font-size:17px;margin:0 0 8px}
.about{color:var(--soft);margin:0 0 16px;overflow-wrap:anywhere}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(165px,1fr));gap:10px;margin:0 0 16px;padding:0}
.tiles>div,figure,section{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:14px 16px;margin:0}
.tiles dt{color:var(--soft);font-size:13px}
.tiles dd{margin:0;overflow-wrap:anywhere}
.tiles dd:nth-of-type(1){font-size:21px;font-weight:600;line-height:1.25}
.tiles dd+dd{font-size:13px;color:var(--soft)}
figure,section{margin:0 0 16px}
figcaption,.note{color:var(--soft);font-size:13px;margin-top:8px;max-width:76ch}
svg{display:block;width:100%;height:auto}
svg.narrow{display:none;max-width:480px}
svg.key{display:inline-block;width:12px;height:12px;vertical-align:-1px;margin-right:5px}
svg text{font-size:12px;fill:var(--soft);font-variant-numeric:tabular-nums}
svg text.label{fill:var(--ink)}
svg text.small{font-size:11.5px;fill:var(--ink)}
svg text.rank{font-size:11px;font-weight:700;fill:var(--strong)}
svg text.unit{font-style:italic}
.middle{text-anchor:middle}.end{text-anchor:end}
.grid{stroke:var(--line)}.axis,.zero{stroke:var(--edge)}
.whisker{stroke:var(--edge)}
line.covered{stroke:var(--strong);stroke-width:2}
line.thin{stroke-width:1}
.before{fill:var(--muted);background:var(--muted)}.after{fill:var(--c1);background:var(--c1)}
.dot{stroke:var(--card);stroke-width:.6}
.band{fill:var(--band);background:var(--band)}
.c1{fill:var(--c1);background:var(--c1)}.c2{fill:var(--c2)}.c3{fill:var(--c3)}.c4{fill:var(--c4)}
.c5{fill:var(--c5)}.c6{fill:var(--c6)}.c7{fill:var(--c7)}.c8{fill:var(--c8)}
.legend{display:flex;flex-wrap:wrap;gap:2px 16px;margin:0 0 8px;font-size:13px;color:var(--soft)}
.legend i{display:inline-block;width:12px;height:12px;border-radius:2px;margin-right:5px;vertical-align:-1px}
.legend i.covered{height:2px;background:var(--strong);vertical-align:4px}
.worst{margin:8px 0 0;padding-left:26px;font-size:13px;columns:2 320px;column-gap:28px}
.worst li{break-inside:avoid;margin-bottom:3px}.worst span{color:var(--soft)}
code{font-family:ui-monospace,"DejaVu Sans Mono",Menlo,monospace;font-size:12px}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:13px;font-variant-numeric:tabular-nums}
th,td{padding:4px 8px;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child,th.text,td.text{text-align:left}
th{white-space:normal;vertical-align:bottom}
tbody td:first-child{white-space:normal;min-width:150px;overflow-wrap:anywhere}
thead th{color:var(--soft);font-weight:600}
th button{all:unset;cursor:pointer}th button:hover,th button:focus-visible{text-decoration:underline}
th[aria-sort=ascending] button::after{content:" ↑"}th[aria-sort=descending] button::after{content:" ↓"}
.warnings li{overflow-wrap:anywhere}
summary{cursor:pointer;font-weight:600}
@media (max-width:700px){svg.wide{display:none}svg.narrow{display:block}main{padding:12px 10px 32px}
.tiles{grid-template-columns:repeat(2,minmax(0,1fr))}.tiles>div,figure,section{padding:12px}.tiles dd:nth-of-type(1){font-size:18px}}
@media print{.tiles>div,figure,section{break-inside:avoid}}
)css";

/// Cells carry their value as data-v where the text is rounded.
inline constexpr std::string_view page_script = R"js(
for (const th of document.querySelectorAll('th')) {
  const button = th.querySelector('button');
  if (!button) continue;
  button.addEventListener('click', () => {
    const body = th.closest('table').tBodies[0], column = th.cellIndex, numeric = !th.classList.contains('text');
    const down = th.getAttribute('aria-sort') === (numeric ? 'descending' : 'ascending') ? numeric : !numeric;
    const key = row => row.cells[column].dataset.v ?? row.cells[column].textContent;
    const order = (a, b) => numeric ? (parseFloat(key(a)) || 0) - (parseFloat(key(b)) || 0)
                                    : key(a).localeCompare(key(b), 'en', {numeric: true});
    const rows = [...body.rows].sort((a, b) => down ? order(a, b) : order(b, a));
    for (const other of th.parentNode.cells) other.removeAttribute('aria-sort');
    th.setAttribute('aria-sort', down ? 'ascending' : 'descending');
    body.append(...rows);
  });
}
)js";

}  // namespace qlib::inline v0::report_parts
