// A browser starts no worker from a file: the search then runs in a frame that is not shown. Elsewhere workers are left alone.
if (location.protocol === "file:") {
  window.IFrameWorker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.appendChild(frame);
      this.frame = frame;
      this.waiting = [];
      const inside = frame.contentWindow;
      inside.document.open();
      inside.document.write("<!doctype html><html><body></body></html>");
      inside.document.close();
      inside.postMessageOut = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      const script = inside.document.createElement("script");
      inside.eval("var postMessage = (data) => postMessageOut(data); var importScripts = (...urls) => urls.reduce((before, url) => before.then(() => new Promise((done) => { const one = document.createElement('script'); one.src = url; one.onload = done; document.body.appendChild(one); })), Promise.resolve());");
      script.onload = () => { const before = this.waiting; this.waiting = null; before.forEach((data) => this.deliver(data)); };
      script.src = new URL(url, document.baseURI).href;
      inside.document.body.appendChild(script);
    }
    deliver(data) {
      this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data }));
    }
    postMessage(data) {
      if (this.waiting) this.waiting.push(data);
      else this.deliver(data);
    }
    terminate() {
      this.frame.remove();
    }
  };
  window.Worker = window.IFrameWorker;
}
