"""The style of the page that shows the document, for bright and dark screens."""

STYLE = """\
:root{color-scheme:light dark;--line:#8884;--soft:#8881}
body{font:16px/1.5 system-ui,sans-serif;max-width:64rem;margin:0 auto;padding:1rem}
h1,h2{line-height:1.2}h4{margin:1rem 0 .25rem}
p{margin:.25rem 0 .5rem}
details{border:1px solid var(--line);border-radius:.4rem;margin:.4rem 0;padding:.1rem .75rem}
details[open]{padding-bottom:.75rem}
summary{cursor:pointer;padding:.4rem 0}
summary b{display:inline-block;min-width:4rem}
code{font:14px/1.4 ui-monospace,monospace;background:var(--soft);padding:.1em .3em;border-radius:.2rem}
table{border-collapse:collapse;width:100%}
td{border-top:1px solid var(--line);padding:.3rem .5rem .3rem 0;vertical-align:top}
div{border-top:1px solid var(--line);padding:.3rem 0}
i{opacity:.75;font-style:normal;font-size:.9em}
.delete{color:#c33}.post{color:#283}.patch{color:#a60}.get,.head{color:#26c}
"""
