"""The report's style sheet: system fonts, one column, nothing fetched."""

CSS = """
:root{--ink:#1d2329;--soft:#5b6670;--line:#e3e7ea;--accent:#0072b2;--back:#fff;--card:#f6f8f9}
*{box-sizing:border-box}
html{scroll-behavior:smooth}
body{margin:0;background:var(--back);color:var(--ink);font:16px/1.6 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif;-webkit-font-smoothing:antialiased}
main{max-width:1000px;margin:0 auto;padding:3rem 1.5rem 4rem}
h1{font-size:2.2rem;line-height:1.15;letter-spacing:-.02em;margin:0 0 .6rem}
h2{font-size:1.35rem;letter-spacing:-.01em;margin:3rem 0 .6rem;padding-top:1.2rem;
border-top:1px solid var(--line)}
p,li{max-width:46rem}
.lead{font-size:1.12rem;color:var(--soft);margin:0 0 1.2rem}
nav{display:flex;flex-wrap:wrap;gap:.3rem 1.2rem;font-size:.92rem}
a{color:var(--accent);text-decoration:none}a:hover{text-decoration:underline}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(160px,1fr));gap:.8rem;margin:1.8rem 0 0}
.cards div{background:var(--card);border-radius:10px;padding:.9rem 1rem}
.cards b{display:block;font-size:1.5rem;letter-spacing:-.01em;font-variant-numeric:tabular-nums}
.cards span{display:block;font-size:.83rem;line-height:1.35;color:var(--soft)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.92rem;margin:.8rem 0 1.2rem;font-variant-numeric:tabular-nums}
th,td{padding:.35rem 1.1rem .35rem 0;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left}
th{font-weight:600;color:var(--soft);font-size:.85rem}
figure{margin:1.4rem 0}
img{display:block;width:100%;height:auto}
figcaption{font-size:.88rem;color:var(--soft);margin-top:.4rem;max-width:46rem}
code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.9em}
footer{margin-top:3rem;color:var(--soft);font-size:.85rem}
@media print{h2{break-after:avoid}figure,table{break-inside:avoid}nav{display:none}}
"""
