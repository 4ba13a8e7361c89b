"""A window that tells a story: a thread generates, Tk's event loop goes on, and closing the window ends both."""

from __future__ import annotations

import queue
import threading
import tkinter as tk

import llama_cy


class StoryWindow:
    """A text, a button that tells a story, and one that stops it."""

    def __init__(self, root: tk.Tk, model: llama_cy.Model) -> None:
        self.root = root
        self.context = model.context(n_ctx=1024)
        self.pieces: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.teller: threading.Thread | None = None
        self.text = tk.Text(root, wrap="word", width=60, height=15)
        self.text.pack()
        self.button = tk.Button(root, text="Tell", command=self.tell)
        self.button.pack()
        tk.Button(root, text="Stop", command=self.context.cancel).pack()
        root.protocol("WM_DELETE_WINDOW", self.close)

    def tell(self) -> None:
        """Start the thread, which touches nothing of Tk, and look for what it wrote."""
        self.button["state"] = "disabled"
        stream = self.context.stream("Once upon a time", max_tokens=300)
        self.teller = threading.Thread(target=self.generate, args=(stream,), daemon=True)
        self.teller.start()
        self.show()

    def generate(self, stream: llama_cy.TextStream) -> None:
        """Put the story into the queue, piece by piece, and None behind it."""
        try:
            for piece in stream:
                self.pieces.put(piece)
        finally:
            self.pieces.put(None)

    def show(self) -> None:
        """Show what there is, and come back in a moment unless that was all."""
        while not self.pieces.empty():
            piece = self.pieces.get()
            if piece is None:
                self.button["state"] = "normal"
                return
            self.text.insert("end", piece)
            self.text.see("end")
        self.root.after(20, self.show)

    def close(self) -> None:
        """End the story and the window."""
        self.context.cancel()
        if self.teller is not None:
            self.teller.join()
        self.context.close()
        self.root.destroy()


if __name__ == "__main__":
    window = StoryWindow(tk.Tk(), llama_cy.demo_model())
    window.root.title("llama_cy")
    window.root.mainloop()
