"""Prompts that try to be more than text."""

NASTY = (
    "<script>window.attacked = 1</script>",
    "</script><script>window.attacked = 2</script>",
    "<img src=x onerror='window.attacked = 3'>",
    '"><svg onload="window.attacked = 4">',
    "<!-- <script> -->",
    "]]></style></textarea></title><iframe src='http://127.0.0.1:9/'></iframe>",
    'it\'s "quoted" & <b>bold</b> &amp; {{ 7 * 7 }} {% raw %}',
    "two\nlines\tand\ta tab\r\nand more",
    "line\u2028separator and\u2029paragraph",
    "emoji 🦊👩‍👩‍👧 and flags 🇯🇵",
    "عربي من اليمين إلى اليسار with English",
    "\u202eoverride and \u0000 nothing".replace("\u0000", "\u0001"),
    "javascript:window.attacked=5",
    "\\u003cscript\\u003e \\ backslash `back` ${tick}",
)
