"""Draw the nearest pictures of captions as one HTML page."""

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

import newsclippings

SHOWN = 5
TOLD = """\
<!DOCTYPE html><meta charset="utf-8"><title>Nearest pictures of captions</title><style>
body { font: 16px/1.4 system-ui, sans-serif; max-width: 66rem; margin: 2rem auto; padding: 0 1rem; color: #1c2127 }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem } div { display: flex; gap: .6rem } figure { flex: 1 1 0; margin: 0 }
img { width: 100%; height: 9rem; object-fit: cover; border: 4px solid #d5d9de; box-sizing: border-box }
.own img { border-color: #1a7f37 } figcaption { font-size: .85rem; color: #57606a }</style>
<h1>Nearest pictures of captions</h1><p>The five pictures of the sample whose vectors are nearest to that of each
caption; a green frame marks the caption's own. <b>The encoder of pictures is only a stand-in for a CLIP</b>: MiniLM's
vectors of the names of a picture's five likeliest ImageNet classes. It knows no people, places or events.</p>"""


def draw(rows: Sequence[Any], scores: Any, order: Any, summary: str) -> str:
    """Return the page.

    Args:
        rows: with `caption` and `image` (encoded); the picture of a row is the caption's own.
        scores: (N, N), of captions and pictures.
        order: (N, N), for each caption the rows of the pictures from the nearest on.
        summary: a sentence above.
    """
    page = [TOLD, f"<p>{summary}</p>"]
    for k, row in enumerate(rows):
        page.append(f"<h2>{html.escape(row['caption'])}</h2><div>")
        for j in order[k, :SHOWN]:
            own = ' class="own"' if j == k else ""
            title, data = html.escape(rows[int(j)]["caption"], quote=True), io.BytesIO()
            small = newsclippings.decode_small(rows[int(j)]["image"], 240)
            small.thumbnail((320, 320))
            small.save(data, "JPEG", quality=75)
            source = f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"
            page.append(f'<figure{own}><img src="{source}" alt="{title}" title="{title}">')
            page.append(f"<figcaption>{scores[k, j]:.2f}{' its own' if own else ''}</figcaption></figure>")
        page.append("</div>")
    return "\n".join(page)
