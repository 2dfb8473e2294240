"""A static page that tags sounds in the browser: the executable as WebAssembly, and a page around it."""
