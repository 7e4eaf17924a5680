// What nginx alone cannot say: who a key belongs to, which models there are, whether they can predict.
// Runs on njs 0.7.9 (Debian 12) and later. Paths under /_ are internal locations of nginx.conf.

import fs from 'fs';
import crypto from 'crypto';

const NOBODY = '';
const UNREADABLE = '!';  // no key has this name
const KEY_LINE = /^([0-9a-f]{64})[ \t]+([A-Za-z0-9._-]{1,64})$/;
const BEARER = /^Bearer +([\x21-\x7e]+)$/i;

// Name of the request's key. The file is read for each request: a changed file counts from the next request on.
function keyName(r) {
    let text;
    try {
        text = fs.readFileSync(r.variables.keys_file, 'utf8');
    } catch (error) {
        r.error(`keys file: ${error.message}`);
        return UNREADABLE;
    }
    const bearer = BEARER.exec(r.headersIn['Authorization'] || '');
    if (!bearer) {
        return NOBODY;
    }
    const digest = crypto.createHash('sha256').update(bearer[1]).digest('hex');
    let name = NOBODY;
    text.split('\n').forEach((line) => {  // every line, so that the time does not tell which one it was
        const entry = KEY_LINE.exec(line.trim());
        if (entry && sameText(entry[1], digest)) {
            name = entry[2];
        }
    });
    return name;
}

// Equality of two texts of one length, in a time that does not depend on where they differ.
function sameText(a, b) {
    let difference = 0;
    for (let i = 0; i < a.length; i++) {
        difference |= a.charCodeAt(i) ^ b.charCodeAt(i);
    }
    return difference === 0;
}

// GET /v1/models: every model and version, with its workers.
async function models(r) {
    let found;
    try {
        found = await readModels(r);
    } catch (error) {
        r.error(`models: ${error.message}`);
        r.return(503);
        return;
    }
    answer(r, 200, {models: found});
}

// GET /readyz: 200 while the keys can be read and every worker of every model is READY.
async function readyz(r) {
    let ready = false;
    try {
        const found = await readModels(r);
        const versions = found.reduce((all, model) => all.concat(model.versions), []);
        ready = versions.length > 0 && versions.every((version) => version.ready);
    } catch (error) {
        r.error(`readyz: ${error.message}`);
    }
    ready = ready && r.variables.key_name !== UNREADABLE;
    answer(r, ready ? 200 : 503, {ready: ready});
}

async function readModels(r) {
    const list = await ask(r, '/_models');
    return await Promise.all(list.models.map(async (model) => {
        const replies = await Promise.all([
            ask(r, `/_models/${model.modelName}`), ask(r, `/_models/${model.modelName}/all`),
        ]);
        const standard = replies[0][0].modelVersion;
        return {name: model.modelName, versions: replies[1].map((version) => describeVersion(version, standard))};
    }));
}

function describeVersion(version, standard) {
    const up = version.workers.filter((worker) => worker.status === 'READY').length;
    return {
        version: version.modelVersion,
        default: version.modelVersion === standard,
        ready: up > 0 && up === version.workers.length,
        workers: {ready: up, all: version.workers.length},
    };
}

// JSON of TorchServe's management API.
async function ask(r, uri) {
    const reply = await r.subrequest(uri);
    if (reply.status !== 200) {
        throw new Error(`${uri} answers ${reply.status}`);
    }
    return JSON.parse(reply.responseText);
}

function answer(r, status, value) {
    r.headersOut['Content-Type'] = 'application/json';
    r.return(status, JSON.stringify(value) + '\n');
}

export default {keyName, models, readyz};
