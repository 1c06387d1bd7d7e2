"""The page of the stage `overview`, as a Jinja template: no script, nothing loaded from elsewhere."""

PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ run }}: ecsnet</title>
<style>
:root { color-scheme: light; --line: #ddd; --soft: #666; --mark: #eef4fb; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 75rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; margin: .5rem 0; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid var(--line); }
p { max-width: 45rem; }
nav a { margin-right: 1rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .8rem .25rem 0; text-align: right; border-bottom: 1px solid var(--line); }
th { font-weight: 600; vertical-align: bottom; }
.scroll th, .scroll td { white-space: nowrap; }
th.text, td.text { text-align: left; }
tr.ours { background: var(--mark); font-weight: 600; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
.note { border-left: 4px solid #d98c00; background: #fff8e8; max-width: 45rem; }
.note { padding: .6rem 1rem; margin: 0 0 1rem; }
.note ul { margin: .3rem 0 0; padding-left: 1.2rem; }
figure { margin: 0; }
figure img { display: block; max-width: none; }
.soft, footer { color: var(--soft); font-size: .9rem; }
pre { overflow-x: auto; background: #f6f6f6; padding: .8rem; font-size: .85rem; }
</style>
</head>
<body>
<h1>{{ run }}</h1>
<p class="soft">Pixel masks from image tags by ECS-Net. True masks were read for scoring alone,
and for the bound where there is one.</p>
<nav><a href="#scores">Scores</a><a href="#pictures">Pictures</a><a href="#times">Times</a>
<a href="#settings">Settings</a></nav>

<h2 id="run">What was run</h2>
<dl>
{% for name, value in facts %}
<dt>{{ name }}</dt><dd>{{ value }}</dd>
{% endfor %}
</dl>

<h2 id="scores">Scores</h2>
{% if scores %}
<div class="scroll"><table>
<tr><th class="text">what</th><th>mIoU</th><th>mIoU, kept pixels</th><th>pixels kept</th>
<th>accuracy of them</th><th class="text">scored on</th></tr>
{% for cells in scores %}
<tr>
{% for cell in cells %}<td{% if loop.first or loop.last %} class="text"{% endif %}>{{ cell }}</td>{% endfor %}
</tr>
{% endfor %}
</table></div>
<p class="soft">In percent. Ignored pixels of a label count as background in mIoU.
{%- if ratio %} The network reaches {{ ratio }} of what it reaches on true masks; the paper's, 0.853.
{%- endif %}
</p>
{% else %}
<p>Nothing is scored: there are no true masks.</p>
{% endif %}

<h2>Published results on VOC 2012</h2>
{% if reasons %}
<div class="note"><strong>This run may not be compared with them:</strong>
<ul>{% for reason in reasons %}<li>{{ reason }}</li>{% endfor %}</ul></div>
{% endif %}
<div class="scroll"><table>
<tr><th class="text">method</th><th>val</th><th>test</th><th>CAM, train</th><th>labels, train</th>
<th class="text">network</th></tr>
{% for cells, ours in published %}
<tr{% if ours %} class="ours"{% endif %}>
{% for cell in cells %}<td{% if loop.first or loop.last %} class="text"{% endif %}>{{ cell }}</td>{% endfor %}
</tr>
{% endfor %}
</table></div>
<p class="soft">mIoU in percent from image-level labels, as the papers report it.</p>

<span id="pictures"></span>
{% for name, title, uri in pictures %}
<h2 id="{{ name }}">{{ title }}</h2>
<figure class="scroll"><img alt="{{ title }}" src="{{ uri }}"></figure>
{% endfor %}

<h2 id="times">Times</h2>
<div class="scroll"><table>
<tr><th class="text">stage</th><th>jobs</th><th>time of all</th><th>share</th>
<th>memory of the largest, MB</th></tr>
{% for row in times %}
<tr>{% for cell in row %}<td{% if loop.first %} class="text"{% endif %}>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</table></div>
<p class="soft">Of jobs beside each other the times add up. A job that was stopped and taken up again counts
from there.</p>

<h2 id="settings">Settings</h2>
<p>Not the default:</p>
<pre>{% for name, value in changed.items() %}{{ name }}: {{ value }}
{% else %}nothing
{% endfor %}</pre>
<details><summary>All settings</summary><pre>{{ settings }}</pre></details>

<footer><p>ecsnet {{ version }}</p></footer>
</body>
</html>
"""
